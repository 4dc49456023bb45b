//! Where a server is: `deploy@127.0.0.1:2222`.

use std::str::FromStr;

/// A user, a host and perhaps a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) user: String,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, place) = text
            .rsplit_once('@')
            .filter(|(user, _)| !user.is_empty())
            .ok_or("it names no user; write  deploy@host  or  deploy@host:2222")?;
        let (host, port) = split_port(place)?;
        if host.is_empty() {
            return Err("it names no host; write  deploy@host  or  deploy@host:2222".to_owned());
        }
        Ok(Self { user: user.to_owned(), host: host.to_owned(), port })
    }
}

/// Host and port; an IPv6 address stands in brackets where a port follows.
fn split_port(place: &str) -> Result<(&str, Option<u16>), String> {
    let port = |text: &str| {
        let port = text.parse().ok().filter(|port| *port > 0);
        port.ok_or_else(|| format!("`{text}` is not a port")).map(Some)
    };
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
        return match rest.strip_prefix(':') {
            Some(text) => Ok((host, port(text)?)),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!("`{rest}` after the bracket is not a port")),
        };
    }
    match place.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Ok((place, None)),
        Some((host, text)) => Ok((host, port(text)?)),
        None => Ok((place, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, user, host, port) in [
            ("deploy@127.0.0.1:2222", "deploy", "127.0.0.1", Some(2222)),
            ("deploy@web-1", "deploy", "web-1", None),
            ("deploy@[::1]:2222", "deploy", "::1", Some(2222)),
            ("deploy@[fe80::1]", "deploy", "fe80::1", None),
            ("deploy@fe80::1", "deploy", "fe80::1", None),
            ("ana@example.com@web-1", "ana@example.com", "web-1", None),
        ] {
            let expected = Address { user: user.to_owned(), host: host.to_owned(), port };
            assert_eq!(text.parse::<Address>().unwrap(), expected, "{text}");
        }
        for bad in [
            "web-1",
            "@web-1",
            "deploy@",
            "deploy@web-1:",
            "deploy@web-1:0",
            "deploy@web-1:70000",
            "deploy@[::1",
            "deploy@[::1]x",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
