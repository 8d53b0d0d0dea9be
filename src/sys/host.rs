//! What the machine is called.

/// The machine's host name, as the kernel knows it.
#[must_use]
pub fn name() -> String {
    let names = rustix::system::uname();
    names.nodename().to_string_lossy().into_owned()
}
