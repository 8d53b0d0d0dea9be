//! From the configuration file to a checked Config, with every fault at once.
