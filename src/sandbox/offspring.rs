//! The children of this process, for the two roles that end theirs: keeper and supervisor.
//!
//! Both are child subreapers, so that whoever loses its own parent becomes a child of theirs. Only
//! looks, kills nobody.

use nix::unistd::Pid;

/// Our children: by /proc/self/task where the kernel has it, else by looking at everybody's parent.
pub fn children() -> Vec<Pid> {
    let lists = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists: Vec<_> =
        lists.map(|task| std::fs::read_to_string(task.path().join("children"))).collect();
    if lists.iter().any(Result::is_ok) {
        let text: String = lists.into_iter().flatten().collect();
        return text
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .map(Pid::from_raw)
            .collect();
    }
    by_parent(std::process::id())
}

fn by_parent(me: u32) -> Vec<Pid> {
    let everybody = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    everybody
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| parent(*pid) == Some(me))
        .map(Pid::from_raw)
        .collect()
}

fn parent(pid: i32) -> Option<u32> {
    stat(pid).map(|(_, parent)| parent)
}

/// Fields 3 and 4 of /proc/PID/stat (proc(5)), state and parent; the name in field 2 may hold spaces and
/// parentheses.
fn stat(pid: i32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// Every descendant of a process that still runs: zombies are not meant.
pub fn running_below(ancestor: Pid) -> Vec<Pid> {
    let everybody = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let everybody: Vec<(i32, char, i32)> = everybody
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| stat(pid).map(|(state, parent)| (pid, state, parent)))
        .filter_map(|(pid, state, parent)| Some((pid, state, i32::try_from(parent).ok()?)))
        .collect();
    let (mut found, mut next) = (Vec::new(), vec![ancestor.as_raw()]);
    while let Some(parent) = next.pop() {
        for (pid, state, _) in everybody.iter().filter(|(_, _, its)| *its == parent) {
            next.push(*pid);
            if !matches!(state, 'Z' | 'X') {
                found.push(Pid::from_raw(*pid));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_either_way() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("cat runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        assert!(children().contains(&pid));
        assert!(by_parent(std::process::id()).contains(&pid));
        drop(child.stdin.take());
        child.wait().expect("reaped");
        assert!(!children().contains(&pid) && !by_parent(std::process::id()).contains(&pid));
    }
}
