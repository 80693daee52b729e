"""Load runs in a guest, each with a known answer."""
