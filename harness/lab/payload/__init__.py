"""What the lab's guest image holds beside TensorFlow, as a package named ``shakedown_lab``.

It runs in guests: of the engine it imports payloads only, of itself by relative imports.
"""
