//! A filter of system calls as one program for the kernel (seccomp(2), classic BPF).
//!
//! The numbers are a tree of comparisons and not a row of them: the kernel runs the program once for every
//! number when it is installed and again for each call whose arguments count, open(2) among them. And one
//! program answers with several errors, where a compiler of rows needs one program for each.

use std::collections::BTreeMap;

use nix::libc::{self, c_long};
use seccompiler::sock_filter;

/// The numbers of the x32 ABI are those of x86-64 with this bit.
const X32: u32 = 0x4000_0000;

/// offsetof(struct seccomp_data, ...).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const HERE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const HERE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

/// What is asked of the lower half of an argument, by its place (0 to 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Is(u8, u32),
    IsNot(u8, u32),
    /// This bit is set.
    Has(u8, u32),
}

/// When a call is refused, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The error that the caller gets (errno(3)).
    pub(super) error: i32,
    /// Refused where all tests of one of these hold; whatever the arguments are where there is none.
    pub(super) when: Vec<Vec<Test>>,
}

/// Refused calls by their numbers; all others are allowed.
pub(super) type Refusals = BTreeMap<c_long, Refusal>;

/// The program. A call of another architecture ends the process; one of the x32 ABI is not there.
pub(super) fn compile(refusals: &Refusals) -> Vec<sock_filter> {
    let calls: Vec<_> = refusals
        .iter()
        .filter_map(|(number, refusal)| Some((u32::try_from(*number).ok()?, refusal)))
        .collect();
    let mut program = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, HERE, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
        jump(libc::BPF_JGE, X32, 0, 1),
        answer(error(libc::ENOSYS)),
    ];
    program.extend(tree(&calls));
    program
}

/// The search for a number.
fn tree(calls: &[(u32, &Refusal)]) -> Vec<sock_filter> {
    match calls {
        [] => vec![allow()],
        [(number, refusal)] => {
            let mut leaf = vec![jump(libc::BPF_JEQ, *number, 1, 0), allow()];
            leaf.extend(refuse(refusal));
            leaf
        }
        several => {
            let (low, high) = several.split_at(several.len() / 2);
            let pivot = high.first().map_or(0, |(number, _)| *number);
            let low = tree(low);
            // A conditional jump reaches 255 steps; this one is for any distance.
            let over = statement(libc::BPF_JMP | libc::BPF_JA, length(&low));
            let mut node = vec![jump(libc::BPF_JGE, pivot, 0, 1), over];
            node.extend(low);
            node.extend(tree(high));
            node
        }
    }
}

fn refuse(refusal: &Refusal) -> Vec<sock_filter> {
    let refused = answer(error(refusal.error));
    if refusal.when.is_empty() {
        return vec![refused];
    }
    let mut program = Vec::new();
    for tests in &refusal.when {
        // Each test is two steps; the first that does not hold leaves for what comes after the answer.
        for (done, test) in tests.iter().enumerate() {
            let rest = u8::try_from(2 * (tests.len() - done) - 1).unwrap_or(u8::MAX);
            let (argument, step) = match *test {
                Test::Is(argument, value) => (argument, jump(libc::BPF_JEQ, value, 0, rest)),
                Test::IsNot(argument, value) => (argument, jump(libc::BPF_JEQ, value, rest, 0)),
                Test::Has(argument, bit) => (argument, jump(libc::BPF_JSET, bit, 0, rest)),
            };
            // Little endian: the lower half comes first.
            program.extend([load(ARGUMENTS + 8 * u32::from(argument)), step]);
        }
        program.push(refused.clone());
    }
    program.push(allow());
    program
}

fn length(program: &[sock_filter]) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}

fn error(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number.cast_unsigned()
}

fn allow() -> sock_filter {
    answer(libc::SECCOMP_RET_ALLOW)
}

fn answer(with: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, with)
}

fn load(at: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at)
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(test: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// struct seccomp_data, as the kernel shows it to a program.
    struct Data {
        number: u32,
        architecture: u32,
        arguments: [u32; 6],
    }

    /// What the kernel would answer.
    fn run(program: &[sock_filter], data: &Data) -> u32 {
        let (mut at, mut held) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            let code = u32::from(step.code);
            let (class, test) = (code & 0x07, code & 0xf0);
            match class {
                libc::BPF_RET => return step.k,
                libc::BPF_LD => {
                    held = match step.k {
                        NUMBER => data.number,
                        ARCHITECTURE => data.architecture,
                        other => data.arguments[(other as usize - 16) / 8],
                    }
                }
                _ if test == libc::BPF_JA => at += step.k as usize,
                _ => {
                    let holds = match test {
                        libc::BPF_JEQ => held == step.k,
                        libc::BPF_JGE => held >= step.k,
                        _ => held & step.k != 0,
                    };
                    at += usize::from(if holds { step.jt } else { step.jf });
                }
            }
        }
    }

    /// The same, as it is meant.
    fn meant(refusals: &Refusals, data: &Data) -> u32 {
        if data.architecture != HERE {
            return libc::SECCOMP_RET_KILL_PROCESS;
        }
        if data.number >= X32 {
            return error(libc::ENOSYS);
        }
        let holds = |test: &Test| match *test {
            Test::Is(at, value) => data.arguments[usize::from(at)] == value,
            Test::IsNot(at, value) => data.arguments[usize::from(at)] != value,
            Test::Has(at, bit) => data.arguments[usize::from(at)] & bit != 0,
        };
        match refusals.get(&c_long::from(data.number)) {
            Some(Refusal { error: number, when })
                if when.is_empty() || when.iter().any(|tests| tests.iter().all(holds)) =>
            {
                error(*number)
            }
            _ => libc::SECCOMP_RET_ALLOW,
        }
    }

    fn test() -> impl Strategy<Value = Test> {
        (0_u8..6, 0_u32..4, 0..3).prop_map(|(at, value, kind)| match kind {
            0 => Test::Is(at, value),
            1 => Test::IsNot(at, value),
            _ => Test::Has(at, 1 << value),
        })
    }

    proptest! {
        #[test]
        fn the_program_answers_as_the_list_says(
            refusals in prop::collection::btree_map(
                0..400_i64,
                (1..100, prop::collection::vec(prop::collection::vec(test(), 1..5), 0..4)),
                0..120,
            ),
            calls in prop::collection::vec((0_u32..420, prop::array::uniform6(0_u32..5)), 50),
        ) {
            let refusals: Refusals = refusals
                .into_iter()
                .map(|(number, (error, when))| (number, Refusal { error, when }))
                .collect();
            let program = compile(&refusals);
            // BPF_MAXINSNS.
            prop_assert!(program.len() < 4096);
            let listed = refusals.keys().map(|number| (*number as u32, [1; 6]));
            for (number, arguments) in calls.into_iter().chain(listed) {
                for (number, architecture) in [(number, HERE), (number | X32, HERE), (number, HERE - 1)] {
                    let data = Data { number, architecture, arguments };
                    prop_assert_eq!(run(&program, &data), meant(&refusals, &data));
                }
            }
        }
    }
}
