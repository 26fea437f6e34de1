//! Names of hosts as `model_hosts` has them.

/// Whether this is a name of `model_hosts`: `host`, `host:port`, `[address]:port`, or `.domain` for all below one.
pub(crate) fn is_host(name: &str) -> bool {
    let (host, port) = host_and_port(name);
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    port_fits && !host.trim_start_matches('.').is_empty() && host.chars().all(is_host_letter)
}

/// Whether a host's name or address may have this in it.
pub(crate) fn is_host_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._:".contains(c)
}

/// A host, without brackets, and what stands after its colon.
pub(crate) fn host_and_port(text: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':').or((!rest.is_empty()).then_some(rest)));
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hosts() {
        for good in ["a", "a.b", ".b", "a:1", "[::1]:80", "::1", "127.0.0.1:8000"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", ".", "a b", "https://a", "a/b", "a:0", "a:x", "a:65536", "*", "[::1]x"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
