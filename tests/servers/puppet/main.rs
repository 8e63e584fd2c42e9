//! A server that does what a test tells it, good or bad: by the arguments of its tools, and by its
//! environment for what happens before a tool can be called.
//!
//! | variable | effect |
//! |---|---|
//! | `PUPPET_ERA` | `legacy` (default) or `modern`; each refuses the other as real servers do |
//! | `PUPPET_PROBE` | `silent`: a legacy server that never answers `server/discover` |
//! | `PUPPET_START` | `exit`, `garbage`, `deaf` (never reads), `mute` (never answers), `linger` (only lives, in a session of its own) |
//! | `PUPPET_TTL` | how long a modern server's lists may be kept, by everybody, in milliseconds; 0 by default |
//! | `PUPPET_STUBBORN` | ignores the end of its input and SIGTERM |
//! | `PUPPET_CHATTY` | speaks right after the handshake: list-changed and `roots/list` |
//! | `PUPPET_WAIT_FILE` | says and hears nothing while this file is there |
//! | `PUPPET_LISTEN` | `none`: a modern server without subscriptions; `short`: one that ends each at once |
//! | `PUPPET_EXIT_FILE` | exits at once while this file is there |

mod hunger;
mod puppet;
mod tools;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};
use puppet::Puppet;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Lives, and does nothing else.
pub(crate) fn park_forever() -> ! {
    loop {
        std::thread::park();
    }
}

fn main() -> ExitCode {
    let stubborn = !variable("PUPPET_STUBBORN").is_empty();
    if stubborn {
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
        signals.thread_block().expect("blocked");
    }
    let exit_file = variable("PUPPET_EXIT_FILE");
    if !exit_file.is_empty() && std::path::Path::new(&exit_file).exists() {
        eprintln!("puppet: told to exit by {exit_file}");
        return ExitCode::from(4);
    }
    let wait_file = variable("PUPPET_WAIT_FILE");
    while !wait_file.is_empty() && std::path::Path::new(&wait_file).exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    match variable("PUPPET_START").as_str() {
        "exit" => {
            eprintln!("puppet: told to exit at once");
            return ExitCode::from(3);
        }
        "garbage" => {
            let garbage = b"\x1b[31mnot json\n\xff\xfe\x00\n{\"jsonrpc\":\n[1,2]\n\n";
            let mut output = io::stdout().lock();
            output.write_all(garbage).and_then(|()| output.flush()).expect("written");
        }
        "deaf" => park_forever(),
        "linger" => {
            // Away from the group that a signal would reach.
            let _ = nix::unistd::setsid();
            park_forever()
        }
        "mute" => {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    listen();
    if stubborn {
        park_forever();
    }
    ExitCode::SUCCESS
}

fn listen() {
    let mut puppet = Puppet::new(&variable("PUPPET_ERA"));
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        puppet.hear(line);
    }
}
