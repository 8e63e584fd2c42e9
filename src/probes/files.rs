//! Files of others: the other tenant's, tenantd's, a person's, the system's; by name, and by the ways around
//! a name.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::Mode;

use super::attempt::{Attempt, deed, reached, with};
use super::run::Scene;
use super::{Probe, probe};
use crate::sys::{Argument, attempt};

pub(super) const PROBES: &[Probe] = &[
    probe("files.other-data-listed", "the other tenant's data is listed", "readdir", |s| {
        listed(s.brief.other.data.as_deref(), "the other tenant's data")
    }),
    probe(
        "files.other-data-written",
        "a file is made in the other tenant's data",
        "open O_TMPFILE",
        |s| made_in(s.brief.other.data.as_deref(), "the other tenant's data"),
    ),
    probe(
        "files.other-data-watched",
        "changes in the other tenant's data are seen",
        "inotify_add_watch",
        |s| {
            with(s.brief.other.data.as_deref(), "the other tenant's data", |data| deed(watch(data)))
        },
    ),
    probe(
        "files.other-data-by-dots",
        "the other tenant's data is reached through `..`",
        "readdir",
        by_dots,
    ),
    probe("files.other-file-read", "a file of the other tenant is read", "open O_RDONLY", |s| {
        opened(s.brief.other.file.as_deref(), "a file of the other tenant", false)
    }),
    probe("files.other-home-listed", "the other tenant's HOME is listed", "readdir", |s| {
        listed(s.brief.other.home.as_deref(), "the other tenant's home")
    }),
    probe("files.runtime-listed", "the directory of the sockets is listed", "readdir", |s| {
        listed(s.brief.house.runtime.as_deref(), "the runtime directory")
    }),
    probe("files.configuration-listed", "the configuration is listed", "readdir", |s| {
        listed(s.brief.house.config.as_deref(), "the configuration")
    }),
    probe(
        "files.configuration-written",
        "a file is made in the configuration",
        "open O_TMPFILE",
        |s| made_in(s.brief.house.config.as_deref(), "the configuration"),
    ),
    probe("files.state-listed", "the other tenants are listed", "readdir", |s| {
        let both = s.brief.house.state.as_deref().zip(s.brief.other.id.as_deref());
        with(both, "the state directory", |(state, other)| shows(state, other))
    }),
    probe("files.log-listed", "tenantd's logs are listed", "readdir", |s| {
        listed(s.brief.house.log.as_deref(), "the log directory")
    }),
    probe("files.outside-read", "a file outside is read", "open O_RDONLY", |s| {
        opened(s.brief.outside.as_deref(), "a file outside", false)
    }),
    probe("files.outside-written", "a file outside is opened for writing", "open O_WRONLY", |s| {
        opened(s.brief.outside.as_deref(), "a file outside", true)
    }),
    probe(
        "files.outside-linked",
        "a file outside gets a name in the server's own data",
        "link",
        |s| {
            with(s.brief.outside.as_deref(), "a file outside", |outside| {
                planted(s, "probe-hard-link", |place| std::fs::hard_link(outside, place))
            })
        },
    ),
    probe(
        "files.symlink-planted",
        "a link to a file outside is planted in the server's own data",
        "symlink",
        |s| {
            with(s.brief.outside.as_deref(), "a file outside", |outside| {
                planted(s, "probe-link", |place| std::os::unix::fs::symlink(outside, place))
            })
        },
    ),
    probe(
        "files.symlink-followed",
        "a file outside is read through a planted link",
        "symlink, open",
        |s| {
            with(s.brief.outside.as_deref(), "a file outside", |outside| {
                planted(s, "probe-link", |place| {
                    std::os::unix::fs::symlink(outside, place)?;
                    File::open(place).map(drop)
                })
            })
        },
    ),
    probe(
        "files.by-handle",
        "a file is opened by its number in the file system",
        "open_by_handle_at",
        |_| {
            let number = nix::libc::SYS_open_by_handle_at;
            reached(attempt(
                number,
                &[Argument::Number(0), Argument::Bytes(&[8, 0, 0, 0, 1]), Argument::Number(0)],
            ))
        },
    ),
    probe("files.person-listed", "a person's home is listed", "readdir", |s| {
        listed(s.brief.person.as_deref(), "a person's home")
    }),
    probe("files.person-keys", "a person's ~/.ssh is listed", "readdir", |s| {
        below_person(s, ".ssh", false)
    }),
    probe(
        "files.person-profile",
        "a person's ~/.bashrc is opened for writing",
        "open O_WRONLY",
        |s| below_person(s, ".bashrc", true),
    ),
    probe("files.root-listed", "the host's root directory is listed", "readdir", |_| host_root()),
    probe("files.root-written", "a file is made in /", "open O_TMPFILE", |_| {
        made_in(Some("/"), "")
    }),
    probe("files.programs-written", "a file is made in /usr/bin", "open O_TMPFILE", |_| {
        made_in(Some("/usr/bin"), "")
    }),
    probe("files.etc-written", "a file is made in /etc", "open O_TMPFILE", |_| {
        made_in(Some("/etc"), "")
    }),
    probe("files.shadow", "the hashes of passwords are read", "open O_RDONLY", |_| {
        opened(Some("/etc/shadow"), "", false)
    }),
    probe("files.root-home", "root's home is listed", "readdir", |_| listed(Some("/root"), "")),
    probe("files.system-logs", "the system's logs are listed", "readdir", |_| {
        listed(Some("/var/log"), "")
    }),
    probe("files.own-program", "its own program is opened for writing", "open O_WRONLY", |_| {
        opened(Some("/proc/self/exe"), "", true)
    }),
    probe("files.core-pattern", "the program that gets core dumps is set", "open O_WRONLY", |_| {
        opened(Some("/proc/sys/kernel/core_pattern"), "", true)
    }),
    probe("files.release-agent", "the control groups of the host are listed", "readdir", |_| {
        listed(Some("/sys/fs/cgroup"), "")
    }),
    probe(
        "files.quota-project",
        "a file leaves the project that its quota counts",
        "ioctl FS_IOC_FSSETXATTR",
        project,
    ),
];

fn listed(directory: Option<&str>, what: &str) -> Attempt {
    with(directory, what, |directory| deed(std::fs::read_dir(directory)))
}

/// Of what lies on the way to its own directories a server sees nothing else.
fn shows(directory: &str, other: &str) -> Attempt {
    match std::fs::read_dir(directory) {
        Ok(entries) => {
            let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            let there = names.iter().any(|name| name == other);
            Attempt::open_if(there, format!("{} there", names.len()))
        }
        Err(error) => deed(Err::<(), _>(error)),
    }
}

/// Opens and neither reads nor writes.
fn opened(file: Option<&str>, what: &str, to_write: bool) -> Attempt {
    with(file, what, |file| deed(OpenOptions::new().read(!to_write).write(to_write).open(file)))
}

/// A file without a name leaves nothing behind (open(2), O_TMPFILE).
fn made_in(directory: Option<&str>, what: &str) -> Attempt {
    with(directory, what, |directory| {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        deed(nix::fcntl::open(directory, flags, Mode::S_IRUSR | Mode::S_IWUSR))
    })
}

fn watch(directory: &str) -> nix::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(directory, AddWatchFlags::IN_CREATE).map(drop)
}

/// From the server's own data up to the root and down again.
fn by_dots(s: &Scene<'_>) -> Attempt {
    let both = s.brief.data.as_deref().zip(s.brief.other.data.as_deref());
    with(both, "the other tenant's data", |(own, other)| {
        let depth = Path::new(own).components().count();
        let mut path = PathBuf::from(own);
        path.extend(std::iter::repeat_n("..", depth));
        path.push(other.trim_start_matches('/'));
        deed(std::fs::read_dir(path))
    })
}

/// Makes something in the server's own data, and removes it.
fn planted(s: &Scene<'_>, name: &str, make: impl FnOnce(&Path) -> io::Result<()>) -> Attempt {
    with(s.brief.data.as_deref(), "the data directory", |data| {
        let place = Path::new(data).join(format!("{name}-{}", std::process::id()));
        let made = make(&place);
        // Not there where it could not be made.
        let _ = std::fs::remove_file(&place);
        deed(made)
    })
}

fn below_person(s: &Scene<'_>, name: &str, to_write: bool) -> Attempt {
    with(s.brief.person.as_deref(), "a person's home", |home| {
        let path = Path::new(home).join(name);
        match to_write {
            true => deed(OpenOptions::new().append(true).open(path)),
            false => deed(std::fs::read_dir(path)),
        }
    })
}

/// A root of the sandbox's own has neither of these.
fn host_root() -> Attempt {
    let Ok(entries) = std::fs::read_dir("/") else { return Attempt::blocked("not readable") };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let foreign =
        names.iter().find(|name| ["boot", "root", "srv", "mnt"].iter().any(|host| *name == host));
    match foreign {
        Some(name) => Attempt::open(format!("/{} is there", name.display())),
        None => Attempt::blocked(format!("a root of its own, with {} entries", names.len())),
    }
}

/// Asks for the attributes as they are (ioctl_xfs_fsgetxattr(2)), so that nothing changes where it works.
fn project(s: &Scene<'_>) -> Attempt {
    const FS_IOC_FSSETXATTR: i32 = 0x401c_5820; // linux/fs.h: _IOW('X', 32, struct fsxattr), 28 bytes
    with(s.brief.data.as_deref(), "the data directory", |data| {
        let path = Path::new(data).join(format!("probe-project-{}", std::process::id()));
        let file = match File::create(&path) {
            Ok(file) => file,
            Err(error) => return Attempt::failed(format!("no file to try it on: {error}")),
        };
        let arguments = [
            Argument::Number(file.as_raw_fd()),
            Argument::Number(FS_IOC_FSSETXATTR),
            Argument::Bytes(&[0; 28]),
        ];
        let done = attempt(nix::libc::SYS_ioctl, &arguments);
        let _ = std::fs::remove_file(&path);
        reached(done)
    })
}
