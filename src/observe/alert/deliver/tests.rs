//! Receivers that are down, slow, rude or huge, in process, on loopback.
