"""What engines are called in answers and records."""

COMPUTE = "cuda"
"""What computes by the driver's own library (libcuda)."""
ENCODER, DECODER = "nvenc", "nvdec"
"""Engines beside the cores, as files of GPU models name them too."""
H264_CODER = "h264_nvenc"
"""ffmpeg's name of the encoder."""
DECODING = "cuda"
"""ffmpeg's name of the hardware decoding."""
VIDEO_LIBRARIES = ("libcuda.so.1", "libnvidia-encode.so.1", "libnvcuvid.so.1")
