//! How the system's service ends: everything that it started ends with it, and every session hears why.
