//! What a `postgres://…` address says: where the servers are, and whether the one that answers is to be the one
//! that was meant, in the words of PostgreSQL's own programs. Connects to nothing and reads no file.

use std::path::PathBuf;

use postgres::Config;
use postgres::config::SslMode;
use url::form_urlencoded;

const FORM: &str = "it is no valid address; write postgres://USER:PASSWORD@HOST:PORT/DATABASE";

/// How far a server that speaks TLS is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// `prefer` and `require`: whoever answers.
    Anyone,
    /// `verify-full`: its certificate names the host, and is of an authority in this file, or else of a public one.
    Certified { roots: Option<PathBuf> },
}

/// What the address says; never a part of it in the error, for it may hold a password.
pub fn read(url: &str) -> Result<(Config, Trust), String> {
    let (server, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut kept, mut roots, mut is_full) = (vec![], None, false);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        // Where a plus is no blank.
        let pair_only = pair.replace('+', "%2B");
        let (name, value) = form_urlencoded::parse(pair_only.as_bytes()).next().unwrap_or_default();
        match (&*name, &*value) {
            ("sslmode", "verify-full") => is_full = true,
            ("sslmode", "disable" | "prefer" | "require") => kept.push(pair),
            ("sslmode", _) => {
                let modes = "sslmode is disable, prefer, require or verify-full";
                return Err(format!("it is no valid address: {modes}"));
            }
            ("sslrootcert", file) => roots = Some(PathBuf::from(file)),
            _ => kept.push(pair),
        }
    }
    if roots.is_some() && !is_full {
        return Err("it is no valid address: sslrootcert is used with sslmode=verify-full".to_owned());
    }
    let mut config: Config = format!("{server}?{}", kept.join("&")).parse().map_err(|_| FORM.to_owned())?;
    if is_full {
        config.ssl_mode(SslMode::Require);
    }
    Ok((config, if is_full { Trust::Certified { roots } } else { Trust::Anyone }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_whom_to_trust_as_it_does_to_postgresqls_own_programs() {
        let said = |query: &str| {
            read(&format!("postgres://u:hunter2@h1,h2:5433/d{query}"))
                .map(|(config, trust)| (config.get_ssl_mode(), trust))
        };
        for (query, mode) in [
            ("", SslMode::Prefer),
            ("?", SslMode::Prefer),
            ("?sslmode=prefer", SslMode::Prefer),
            ("?target_session_attrs=read-write&sslmode=require", SslMode::Require),
            ("?sslmode=disable", SslMode::Disable),
        ] {
            assert_eq!(said(query), Ok((mode, Trust::Anyone)), "{query}");
        }
        let certified =
            |roots: Option<&str>| Ok((SslMode::Require, Trust::Certified { roots: roots.map(Into::into) }));
        assert_eq!(said("?sslmode=verify-full"), certified(None));
        assert_eq!(said("?sslrootcert=/a%20b/ca.pem&sslmode=verify-full"), certified(Some("/a b/ca.pem")));
        assert_eq!(
            said("?sslmode=verify-full&application_name=a@b/d&sslrootcert=a+b"),
            certified(Some("a+b"))
        );
        for (query, why) in [
            ("?sslmode=verify-ca", "sslmode is disable, prefer, require or verify-full"),
            ("?sslmode=", "sslmode is"),
            ("?sslrootcert=/ca.pem", "sslrootcert is used with sslmode=verify-full"),
            ("?sslmode=require&sslrootcert=/ca.pem", "sslrootcert is used with sslmode=verify-full"),
            ("?splines=1", "write postgres://"),
        ] {
            let said = said(query).expect_err(query);
            assert!(
                said.contains(why) && said.contains("no valid address") && !said.contains("hunter2"),
                "{said}"
            );
        }
    }
}
