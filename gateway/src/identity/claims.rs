//! What a verified token says: who, with which roles, for how long.
//!
//! Roles stand in `roles` (the grid's own tokens), or where Keycloak puts them: `realm_access.roles` and
//! `resource_access.<client>.roles`.

use std::collections::BTreeMap;

use processing_unit::UserId;
use serde::Deserialize;
use uuid::Uuid;

use super::authorisation::Roles;

/// Length of a UUID with its hyphens.
const UUID_BYTES: usize = 36;
/// Kinds of token that are for asking an API; Keycloak calls others `ID` and `Refresh`.
const TYPES: [&str; 2] = ["Bearer", "at+jwt"];

/// The claims that count. Times are seconds since the Unix epoch; fractions are refused.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    pub(super) iat: u64,
    pub(super) exp: u64,
    pub(super) typ: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    realm_access: Option<Access>,
    #[serde(default)]
    resource_access: BTreeMap<String, Access>,
}

#[derive(Debug, Deserialize)]
struct Access {
    #[serde(default)]
    roles: Vec<String>,
}

impl Claims {
    /// Whether the token is for asking, not for refreshing or for a name badge.
    pub(super) fn is_access_token(&self) -> bool {
        self.typ
            .as_deref()
            .is_none_or(|typ| TYPES.iter().any(|known| known.eq_ignore_ascii_case(typ)))
    }

    /// The person: a UUID as it is, anything else as a UUID that follows from it and the issuer.
    pub(super) fn user(&self, namespace: &Uuid) -> UserId {
        let as_it_is = Some(&self.sub)
            .filter(|sub| sub.len() == UUID_BYTES)
            .and_then(|sub| Uuid::try_parse(sub).ok());
        UserId(as_it_is.unwrap_or_else(|| Uuid::new_v5(namespace, self.sub.as_bytes())))
    }

    /// The roles of this house.
    pub(super) fn roles(&self, client: &str) -> Roles {
        let realm = self.realm_access.iter().flat_map(|access| &access.roles);
        let client = self.resource_access.get(client);
        let client = client.into_iter().flat_map(|access| &access.roles);
        let all = self.roles.iter().chain(realm).chain(client);
        Roles::of(all.map(String::as_str))
    }
}

/// Subjects of different issuers are different people.
pub(super) fn namespace(issuer: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, issuer.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::authorisation::Role;
    use super::*;

    fn claims(rest: &str) -> Claims {
        let text = format!(r#"{{"sub":"anna","iat":1,"exp":2{rest}}}"#);
        serde_json::from_str(&text).expect("claims")
    }

    #[test]
    fn roles_are_found_where_keycloak_puts_them() {
        let shaped = claims(
            r#","realm_access":{"roles":["bidder","offline_access"]},
               "resource_access":{"spacegrid":{"roles":["host"]},"account":{"roles":["admin"]}}"#,
        );
        let roles = shaped.roles("spacegrid");
        assert!(roles.has(Role::Bidder) && roles.has(Role::Host));
        assert!(!roles.has(Role::Admin), "another client's role");
        assert!(
            claims(r#","roles":["manager"]"#)
                .roles("x")
                .has(Role::Manager)
        );
        assert_eq!(claims("").roles("spacegrid"), Roles::default());
    }

    #[test]
    fn a_subject_is_a_uuid_or_becomes_one_of_its_issuer() {
        let id = "6f0e2d52-3a5c-4c8e-9b58-1f2d3c4b5a69";
        let mut named = claims("");
        let (one, other) = (namespace("https://a"), namespace("https://b"));
        assert_eq!(named.user(&one), named.user(&one));
        assert_ne!(named.user(&one), named.user(&other));
        named.sub = id.to_owned();
        assert_eq!(
            named.user(&one),
            UserId(Uuid::parse_str(id).expect("a UUID"))
        );
        // Other spellings of the same UUID are other subjects.
        named.sub = id.replace('-', "");
        assert_ne!(
            named.user(&one),
            UserId(Uuid::parse_str(id).expect("a UUID"))
        );
    }

    #[test]
    fn only_tokens_for_asking_are_taken() {
        assert!(claims("").is_access_token());
        assert!(claims(r#","typ":"Bearer""#).is_access_token());
        for typ in ["ID", "Refresh", "Offline", "Logout"] {
            assert!(
                !claims(&format!(r#","typ":"{typ}""#)).is_access_token(),
                "{typ}"
            );
        }
    }
}
