//! Who is asking: the peer of a socket as the kernel knows it.
