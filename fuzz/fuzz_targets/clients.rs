//! Hostile clients and honest servers around one exchange.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tenantd::mux::fuzzing::clients(input));
