//! Whose task it is: a task outlives the call that made it, and the server process too where that keeps it
//! (2026-07-28, the tasks extension: a handle is durable), so it is remembered beside the children.

use std::collections::{HashMap, VecDeque};

use crate::names::SessionId;

/// The most tasks of one slot whose owners are remembered; the oldest are forgotten first.
const TASKS: usize = 10_000;

/// Whose task it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskOwner {
    pub(super) session: SessionId,
    pub(super) uid: u32,
}

/// The tasks of a slot's children by the id that the server gave them.
#[derive(Debug, Default)]
pub(super) struct TaskOwners {
    by_id: HashMap<String, TaskOwner>,
    by_age: VecDeque<String>,
}

impl TaskOwners {
    /// Notes who made a task. A server that gives an id twice has forgotten the first one.
    pub(super) fn own(&mut self, task: String, owner: TaskOwner) {
        if self.by_id.insert(task.clone(), owner).is_none() {
            self.by_age.push_back(task);
        }
        if self.by_id.len() > TASKS
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }

    /// Who made it.
    pub(super) fn owner(&self, task: &str) -> Option<TaskOwner> {
        self.by_id.get(task).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_tasks_the_oldest_are_forgotten_and_the_last_owner_counts() {
        let mut tasks = TaskOwners::default();
        let of = |uid| TaskOwner { session: SessionId(1), uid };
        tasks.own("twice".to_owned(), of(1));
        tasks.own("twice".to_owned(), of(2));
        assert_eq!(tasks.owner("twice"), Some(of(2)));
        for n in 0..TASKS {
            tasks.own(n.to_string(), of(3));
        }
        assert_eq!(tasks.owner("twice"), None);
        assert_eq!(tasks.owner("0"), Some(of(3)));
        assert_eq!((tasks.by_id.len(), tasks.by_age.len()), (TASKS, TASKS));
    }
}
