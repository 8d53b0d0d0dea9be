//! Builds everything from a Config.
