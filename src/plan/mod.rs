//! Decides what is due, and why; pure, with the time as an argument.
