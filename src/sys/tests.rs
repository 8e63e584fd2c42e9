//! What crosses a socket or a fork comes out as it went in.

use super::*;

#[test]
fn a_datagram_carries_its_descriptors() {
    let (near, far) = seqpacket_pair().expect("a pair");
    let (kept, given) = seqpacket_pair().expect("a pair");
    send_datagram(&near, b"hello", &[given.as_fd()], SendFlags::empty()).expect("sent");
    let mut buffer = [0; 16];
    let mut got = receive_datagram(&far, &mut buffer, RecvFlags::empty()).expect("received");
    assert_eq!(&buffer[..got.bytes], b"hello");
    assert!(!got.truncated);
    let came = got.descriptors.pop().expect("a descriptor");
    send_datagram(&came, b"over it", &[], SendFlags::empty()).expect("sent");
    let over = receive_datagram(&kept, &mut buffer, RecvFlags::empty()).expect("received");
    assert_eq!(&buffer[..over.bytes], b"over it");
}

#[test]
fn a_datagram_that_does_not_fit_says_so() {
    let (near, far) = seqpacket_pair().expect("a pair");
    send_datagram(&near, b"hello", &[], SendFlags::empty()).expect("sent");
    let got = receive_datagram(&far, &mut [0; 2], RecvFlags::empty()).expect("received");
    assert!(got.truncated);
}

#[test]
fn the_peer_of_a_socket_pair_is_ourselves() {
    let (near, _far) = seqpacket_pair().expect("a pair");
    let peer = peer_credentials(&near).expect("credentials");
    assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
    assert_eq!(peer.pid, nix::unistd::getpid().as_raw());
    peer_groups(&near).expect("groups");
    peer_pidfd(&near).expect("a pidfd or none");
}
