//! What may be read, and Landlock, which enforces it.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::reach::Network;

/// The newest version of Landlock that this fence knows what to do with; older ones do what they can.
const KNOWN: ABI = ABI::V6;

/// Programs and libraries of the system.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store"];

/// What libraries look up. Not the whole of `/etc`: root may read passwords there.
const SETTINGS: [&str; 17] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/timezone",
];

/// Devices, and whether they may be written to.
pub(super) const DEVICES: [(&str, bool); 5] =
    [("/dev/null", true), ("/dev/zero", false), ("/dev/full", true), ("/dev/random", false), ("/dev/urandom", false)];

/// Where the fenced program may write: a file system of its own, where there is one.
pub(super) const PRIVATE: &str = "/tmp";

pub(super) const PROC: &str = "/proc";

/// What every fenced program may read, if it exists.
pub(super) fn system() -> Vec<PathBuf> {
    SYSTEM.iter().chain(&SETTINGS).map(PathBuf::from).filter(|path| path.exists()).collect()
}

/// Keeps this process, and all that it starts, to these paths for good. `private`: it may write to [`PRIVATE`].
/// Errors: when the kernel has no Landlock, or it is switched off.
pub(super) fn keep_to(
    readable: &[PathBuf],
    writable: &[PathBuf],
    private: bool,
    network: Network,
) -> Result<(), String> {
    restrict(readable, writable, private, network).map_err(|error| error.to_string()).and_then(|status| match status {
        RulesetStatus::NotEnforced => Err("this kernel has none, or it is switched off".into()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    })
}

fn restrict(
    readable: &[PathBuf],
    writable: &[PathBuf],
    private: bool,
    network: Network,
) -> Result<RulesetStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?;
    if matches!(network, Network::None | Network::Door(_)) {
        ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN))?;
    }
    let read = AccessFs::from_read(KNOWN);
    let device = |(path, writable): (&'static str, bool)| {
        (path, if writable { AccessFs::ReadFile | AccessFs::WriteFile } else { AccessFs::ReadFile.into() })
    };
    let mut ruleset = ruleset.create()?.add_rules(path_beneath_rules(readable, read))?;
    for (path, rights) in DEVICES.map(device) {
        ruleset = ruleset.add_rules(path_beneath_rules([path], rights))?;
    }
    let nodes = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    ruleset = ruleset.add_rules(path_beneath_rules(writable, AccessFs::from_all(KNOWN) & !nodes))?;
    if let Network::Door(Some(port)) = network {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    if private {
        ruleset = ruleset.add_rules(path_beneath_rules([Path::new(PRIVATE)], AccessFs::from_all(KNOWN) & !nodes))?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}
