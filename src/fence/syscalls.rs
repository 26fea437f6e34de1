//! Which system calls are refused inside the fence (seccomp): those that an agent does not need, and with which it
//! could leave something behind or look outside.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use super::reach::Network;

type SyscallRules = BTreeMap<i64, Vec<SeccompRule>>;

/// Refused whatever the arguments.
const REFUSED: &[c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Keyrings are the user's, not the namespace's.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Memory, semaphores and queues that outlive their process.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmdt,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // Other worlds.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // Rings that get round this list, and traps that stall the kernel.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    // Marks on files that are there already; Landlock lets them through.
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_fchownat,
    libc::SYS_fchown,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    // The machine.
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_vhangup,
];

/// Numbers that the crate has no names for: setxattrat, removexattrat, open_tree_attr, file_setattr, and what later
/// kernels add.
const NEWER: [std::ops::RangeInclusive<c_long>; 2] = [463..=463, 466..=520];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] =
    &[libc::SYS_chown, libc::SYS_lchown, libc::SYS_kexec_file_load, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_uselib];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[];

/// Marks on files, where files of the machine are in sight: modes and times.
#[cfg(target_arch = "x86_64")]
const MARKS: &[c_long] = &[
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    452, // fchmodat2
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_utimensat,
    libc::SYS_futimesat,
];
#[cfg(not(target_arch = "x86_64"))]
const MARKS: &[c_long] = &[libc::SYS_fchmod, libc::SYS_fchmodat, 452, libc::SYS_utimensat];

/// Signals to, and limits of, other processes, where others are in sight.
const SIGNALS: &[c_long] = &[
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
    libc::SYS_setpriority,
];

#[cfg(target_arch = "x86_64")]
const SIGNALS_HERE: &[c_long] =
    &[libc::SYS_sched_setaffinity, libc::SYS_sched_setscheduler, libc::SYS_sched_setattr, libc::SYS_ioprio_set];
#[cfg(not(target_arch = "x86_64"))]
const SIGNALS_HERE: &[c_long] = &[];

/// `CLONE_NEW*`, time and control groups included.
const NEW_NAMESPACES: [u64; 8] =
    [0x80, 0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

/// Which of the other layers stand: calls that they cover are not refused here, because programs use them among themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Others {
    /// No foreign process is visible.
    pub(super) alone: bool,
    /// No file of the machine can be changed.
    pub(super) sealed: bool,
    /// What of the network is allowed.
    pub(super) network: Network,
}

/// Refuses, for good, in this process and all that it starts.
/// Errors: when the kernel has no filters, or the crate none for this processor.
pub(super) fn refuse(others: Others) -> Result<(), Error> {
    programs(others)?.iter().try_for_each(|program| apply_filter(program))
}

/// The filters, in the order in which they are applied.
fn programs(others: Others) -> Result<[BpfProgram; 2], Error> {
    // The filter that answers differently comes first: libraries that get "no such call" use the older `clone`, whose
    // flags a filter can inspect.
    let clone3 = program(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)?;
    Ok([clone3, program(rules(others)?, libc::EPERM)?])
}

/// The filters as the kernel takes them, one a line, in hexadecimal digits: for a process that fences itself in because it
/// cannot be started anew.
/// Errors: when the crate has none for this processor.
pub(super) fn as_text(network: Network) -> Result<String, Error> {
    let lines = programs(Others { alone: false, sealed: false, network })?.map(|program| {
        let bytes = program.iter().flat_map(|step| {
            let [a, b] = step.code.to_ne_bytes();
            let [c, d, e, f] = step.k.to_ne_bytes();
            [a, b, step.jt, step.jf, c, d, e, f]
        });
        bytes.map(|byte| format!("{byte:02x}")).collect::<String>()
    });
    Ok(lines.join("\n"))
}

fn program(rules: SyscallRules, error: i32) -> Result<BpfProgram, Error> {
    let action = SeccompAction::Errno(error.unsigned_abs());
    let filter = SeccompFilter::new(with_x32(rules), SeccompAction::Allow, action, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

fn rules(others: Others) -> Result<SyscallRules, Error> {
    let mut refused: Vec<c_long> = [REFUSED, REFUSED_HERE].concat();
    refused.extend(NEWER.into_iter().flatten());
    if !others.alone {
        refused.extend([SIGNALS, SIGNALS_HERE].concat());
    }
    if !others.sealed {
        refused.extend(MARKS);
    }
    let mut rules: SyscallRules = refused.into_iter().map(|number| (number, Vec::new())).collect();
    rules.insert(
        libc::SYS_clone,
        NEW_NAMESPACES
            .iter()
            .map(|flag| all(&[(0, SeccompCmpOp::MaskedEq(*flag), *flag)]))
            .collect::<Result<_, _>>()?,
    );
    // Its own limits are enough.
    rules.insert(libc::SYS_prlimit64, vec![all(&[(0, SeccompCmpOp::Ne, 0)])?]);
    // Typing into a terminal.
    let typing = [0x5412, 0x541C];
    rules.insert(
        libc::SYS_ioctl,
        typing.iter().map(|request| all(&[(1, SeccompCmpOp::Eq, *request)])).collect::<Result<_, _>>()?,
    );
    let unix = libc::AF_UNIX.unsigned_abs().into();
    rules.insert(libc::SYS_socketpair, vec![all(&[(0, SeccompCmpOp::Ne, unix)])?]);
    let sockets = match others.network {
        Network::None => Vec::new(),
        Network::Door(_) | Network::Tcp => sockets(&[(libc::SOCK_STREAM, libc::IPPROTO_TCP)])?,
        Network::Whole => sockets(&[(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)])?,
    };
    rules.insert(libc::SYS_socket, sockets);
    if matches!(others.network, Network::Door(_) | Network::Tcp) {
        // Landlock does not look at a connection that is opened by sending.
        let opening = u64::from(libc::MSG_FASTOPEN.unsigned_abs());
        for (number, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
            rules.insert(number, vec![all(&[(flags, SeccompCmpOp::MaskedEq(opening), opening)])?]);
        }
    }
    if matches!(others.network, Network::Door(_)) {
        // Nor does it look at a socket that listens without having been bound.
        rules.insert(libc::SYS_listen, Vec::new());
    }
    Ok(rules)
}

/// What is refused where something of the network is allowed: every socket of another kind and protocol.
fn sockets(allowed: &[(i32, i32)]) -> Result<Vec<SeccompRule>, Error> {
    let ne = |argument, value: i32| (argument, SeccompCmpOp::Ne, u64::from(value.unsigned_abs()));
    let protocols = allowed.iter().map(|(_, protocol)| ne(2, *protocol));
    let mut refused = vec![
        all(&[ne(0, libc::AF_INET), ne(0, libc::AF_INET6)])?,
        all(&std::iter::once(ne(2, 0)).chain(protocols).collect::<Vec<_>>())?,
    ];
    for kind in (0..16).filter(|kind| !allowed.iter().any(|(allowed, _)| allowed == kind)) {
        refused.push(all(&[(1, SeccompCmpOp::MaskedEq(0xf), u64::from(kind.unsigned_abs()))])?);
    }
    Ok(refused)
}

/// A rule that holds when all of these do: argument, comparison, value.
fn all(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, Error> {
    let condition = |(argument, comparison, value): &(u8, SeccompCmpOp, u64)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, comparison.clone(), *value)
    };
    Ok(SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)?)
}

/// The same calls have second numbers, and some third ones, where the kernel runs programs of the x32 kind too.
fn with_x32(mut rules: SyscallRules) -> SyscallRules {
    if cfg!(target_arch = "x86_64") {
        const X32: i64 = 0x4000_0000;
        let seconds: Vec<_> = rules.iter().map(|(number, rules)| (number | X32, rules.clone())).collect();
        rules.extend(seconds);
        rules.extend((512..=547).map(|number| (number | X32, Vec::new())));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_can_be_built() {
        let networks = [Network::None, Network::Door(None), Network::Tcp, Network::Whole];
        for bits in 0..16 {
            let others = Others { alone: bits & 1 != 0, sealed: bits & 2 != 0, network: networks[bits >> 2] };
            let built = program(rules(others).unwrap(), libc::EPERM).unwrap();
            assert!(built.len() < 4096, "the kernel takes 4,096 instructions, not {}", built.len());
        }
    }
}
