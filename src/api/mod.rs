//! The admin API on the control socket.
