//! Servers that come with the binary.

/// Documents.
pub mod documents {
    /// Runs the server on stdin and stdout.
    ///
    /// # Errors
    /// Not there yet.
    pub fn run() -> Result<(), std::io::Error> {
        Err(std::io::Error::other("no documents server yet"))
    }
}
