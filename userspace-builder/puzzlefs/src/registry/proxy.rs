// SPDX-License-Identifier: Apache-2.0
//! Which proxy stands between here and a server: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in upper
//! or lower case, as Go's programs read them (golang.org/x/net/http/httpproxy), so that podman, skopeo and
//! this command go the same way.

use std::net::IpAddr;

use ureq::Proxy;

use super::url::Url;
use crate::base::error::{Error, Result};

/// The proxy for `url`, if there is one.
pub fn of(url: &Url) -> Result<Option<Proxy>> {
    let var = |name: &str| {
        let either = [name.to_ascii_uppercase(), name.to_ascii_lowercase()];
        let values = either.iter().flat_map(std::env::var);
        values.into_iter().find(|value| !value.is_empty())
    };
    let name = if url.is_https() {
        "https_proxy"
    } else {
        "http_proxy"
    };
    let Some(proxy) = var(name).or_else(|| var("all_proxy")) else {
        return Ok(None);
    };
    if is_direct(url.host(), url.port(), &var("no_proxy").unwrap_or_default()) {
        return Ok(None);
    }
    // It may have a password in it.
    let wrong = |_| Error::refused(format!("what {name} says is no address of a proxy"));
    Proxy::new(&proxy).map(Some).map_err(wrong)
}

/// Whether `no_proxy` or the kind of host lets one go there without a proxy.
fn is_direct(host: &str, port: u16, no_proxy: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    no_proxy.split(',').map(str::trim).any(|rule| {
        let rule = rule.to_ascii_lowercase();
        if rule == "*" {
            return true;
        }
        if let (Some((net, bits)), Some(address)) = (rule.split_once('/'), address) {
            return is_within(address, net, bits);
        }
        let (name, only) = match rule.rsplit_once(':') {
            Some((name, only)) if !name.contains(':') => (name, only.parse::<u16>().ok()),
            _ => (&*rule, None),
        };
        if only.is_some_and(|only| only != port) {
            return false;
        }
        let below = name.trim_start_matches('*');
        match below.strip_prefix('.') {
            Some(domain) => !domain.is_empty() && host.ends_with(below),
            None if name.is_empty() => false,
            None => host == name || host.ends_with(&format!(".{name}")),
        }
    })
}

/// Whether the first `bits` bits of an address are those of `net`.
fn is_within(address: IpAddr, net: &str, bits: &str) -> bool {
    let number = |address| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let (Ok(net), Ok(bits)) = (net.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let ((address, width), (net, net_width)) = (number(address), number(net));
    let differ = (address ^ net)
        .checked_shr(128u32.saturating_sub(bits))
        .unwrap_or(0);
    width == net_width && bits <= width && differ == 0
}

#[cfg(test)]
mod tests {
    use super::is_direct;

    #[test]
    fn rules_are_gos() {
        for (host, rules, direct) in [
            ("localhost", "", true),
            ("127.0.0.1", "", true),
            ("::1", "", true),
            ("h.example", "", false),
            ("h.example", "*", true),
            ("h.example", "a, h.example", true),
            ("a.h.example", "h.example", true),
            ("ah.example", "h.example", false),
            ("a.h.example", ".h.example", true),
            ("h.example", ".h.example", false),
            ("a.h.example", "*.h.example", true),
            ("h.example", "h.example:5000", true),
            ("h.example", "h.example:5001", false),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "0.0.0.0/0", true),
            ("10.1.2.3", "10.1.2.3/33", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("fd00::1", "fd00::/8", true),
            ("fd00::1", "::/0", true),
            ("10.1.2.3", "::/0", false),
            ("h.example", ",", false),
        ] {
            assert_eq!(is_direct(host, 5000, rules), direct, "{host} {rules}");
        }
    }
}
