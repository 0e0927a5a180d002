// SPDX-License-Identifier: Apache-2.0
//! What WWW-Authenticate asks for (RFC 9110, section 11.6.1; the token specification of the distribution
//! project).

use ureq::http::HeaderMap;

/// Challenges that are looked at, and parameters of each.
const MAX: usize = 16;

/// What a server wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A name and a password.
    Basic,
    /// A token, which is to be had from `realm`.
    Bearer {
        /// An address.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
    },
}

/// The challenge of an answer that we can meet, a token before a password.
pub fn of(headers: &HeaderMap) -> Option<Challenge> {
    let texts = headers.get_all("www-authenticate").iter().take(MAX);
    let all = texts.flat_map(|text| parse(text.to_str().unwrap_or_default()));
    let mut all: Vec<Challenge> = all.collect();
    all.sort_by_key(|challenge| *challenge == Challenge::Basic);
    all.into_iter().next()
}

fn parse(text: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut scheme = String::new();
    let mut parameters: Vec<(String, String)> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let word = &rest[..end];
        let after = rest[end..].trim_start_matches([' ', '\t']);
        if word.is_empty() || found.len() + parameters.len() > MAX {
            found.extend(meant(&scheme, &parameters));
            return found;
        }
        match after.strip_prefix('=') {
            Some(value) => {
                let (value, after) = value_of(value.trim_start_matches([' ', '\t']));
                parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            None => {
                found.extend(meant(&scheme, &parameters));
                parameters.clear();
                scheme = word.to_ascii_lowercase();
                rest = &rest[end..];
            }
        }
    }
}

/// A value, in quotation marks or not, and what stands behind it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

fn meant(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let value = |name: &str| {
        let mut found = parameters.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.clone())
    };
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: value("realm")?,
            service: value("service"),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
        }
    }

    #[test]
    fn challenges_are_told_apart() {
        for (text, expected) in [
            ("Basic realm=\"a, b\"", vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (
                r#"Bearer realm="https://a.example/token?x=1,2",service="s \"q\"", scope="repository:a:pull,push""#,
                vec![bearer("https://a.example/token?x=1,2", Some("s \"q\""))],
            ),
            (
                "Bearer realm = x , service = y",
                vec![bearer("x", Some("y"))],
            ),
            (
                "Negotiate abc==, Bearer realm=x, Basic realm=y",
                vec![bearer("x", None), Challenge::Basic],
            ),
            ("Bearer service=x", vec![]),
            ("Bearer realm=\"x", vec![bearer("x", None)]),
            ("Digest realm=x", vec![]),
            ("", vec![]),
            (",,,", vec![]),
            ("=", vec![]),
            ("= =", vec![]),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.append("www-authenticate", "Basic realm=x".parse().unwrap());
        headers.append("www-authenticate", "Bearer realm=x".parse().unwrap());
        assert_eq!(of(&headers), Some(bearer("x", None)));
        let many = "a=b,".repeat(10_000);
        assert!(parse(&many).is_empty());
    }
}
