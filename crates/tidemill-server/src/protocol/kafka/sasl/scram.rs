//! The server's side of SCRAM (RFC 5802, with SHA-256 of RFC 7677 and SHA-512 in its way), without
//! channel binding. Pure: texts and a random number in, texts out.
//!
//! Names and passwords are taken as they come, without SASLprep, as Apache Kafka does. This room
//! may not know sockets, nor where credentials are kept.

use crate::limits::SCRAM_NONCE_MAX_BYTES;
use crate::users::credential::{Credential, Scram, same};
use crate::users::text::{decode, encode};

/// The client's message is none of this exchange, or does not show that it knows the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Wrong;

/// What a client says first: who it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst {
    /// What it says about channel binding, with whom it wants to be: the bytes before its nonce
    /// and name, which come again.
    header: String,
    /// The rest, which is signed.
    bare: String,
    /// The name.
    pub(super) user: String,
    nonce: String,
}

impl ClientFirst {
    /// Reads `n,,n=user,r=nonce`, perhaps with extensions behind it.
    ///
    /// # Errors
    /// [`Wrong`]: it is none, wants channel binding or a mandatory extension, or to be somebody
    /// else than it is.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Wrong> {
        let text = std::str::from_utf8(bytes).map_err(|_| Wrong)?;
        let (binding, rest) = text.split_once(',').ok_or(Wrong)?;
        let (other, bare) = rest.split_once(',').ok_or(Wrong)?;
        if !matches!(binding, "n" | "y") {
            return Err(Wrong);
        }
        let mut parts = bare.split(',');
        let mut part = |key| parts.next().and_then(|part| part.strip_prefix(key));
        let user = name(part("n=").ok_or(Wrong)?)?;
        let nonce = part("r=").ok_or(Wrong)?;
        let printable = nonce.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable || !(1..=SCRAM_NONCE_MAX_BYTES).contains(&nonce.len()) {
            return Err(Wrong);
        }
        // An extension changes what the name means, such as a token of delegation.
        if parts.any(|part| part.starts_with("tokenauth=") || !part.contains('=')) {
            return Err(Wrong);
        }
        let other = match other {
            "" => None,
            named => Some(name(named.strip_prefix("a=").ok_or(Wrong)?)?),
        };
        if user.is_empty() || other.is_some_and(|other| other != user) {
            return Err(Wrong);
        }
        let header = text.len() - bare.len();
        Ok(Self {
            header: text.get(..header).ok_or(Wrong)?.to_owned(),
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
            user,
        })
    }
}

/// A name without its escapes: `=2C` is a comma, `=3D` an equals sign.
fn name(escaped: &str) -> Result<String, Wrong> {
    let mut name = String::with_capacity(escaped.len());
    let mut pieces = escaped.split('=');
    name.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (sign, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            (None, None) => return Err(Wrong),
        };
        name.push(sign);
        name.push_str(rest);
    }
    Ok(name)
}

/// What was asked of a client, and what it has to show.
#[derive(Debug)]
pub(super) struct Challenge {
    scram: Scram,
    first: ClientFirst,
    credential: Credential,
    /// Both nonces.
    nonce: String,
    /// The server's first message.
    text: String,
}

impl Challenge {
    /// Asks a client to show that it knows the password of a credential. The nonce is one that
    /// never came before, of the characters of base64.
    pub(super) fn new(
        scram: Scram,
        first: ClientFirst,
        credential: Credential,
        nonce: &str,
    ) -> Self {
        let nonce = format!("{}{nonce}", first.nonce);
        let salt = encode(&credential.salt);
        let text = format!("r={nonce},s={salt},i={}", credential.iterations);
        Self {
            scram,
            first,
            credential,
            nonce,
            text,
        }
    }

    /// What is sent to the client.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// In which way.
    pub(super) fn scram(&self) -> Scram {
        self.scram
    }

    /// Who is asked.
    pub(super) fn user(&self) -> &str {
        &self.first.user
    }

    /// Reads `c=...,r=...,p=...`; answers what shows the client that this is the server.
    ///
    /// # Errors
    /// [`Wrong`]: another client would say so, or one that does not know the password.
    pub(super) fn proved(&self, bytes: &[u8]) -> Result<String, Wrong> {
        let text = std::str::from_utf8(bytes).map_err(|_| Wrong)?;
        let (unsigned, proof) = text.rsplit_once(",p=").ok_or(Wrong)?;
        let mut parts = unsigned.split(',');
        let mut part = |key| parts.next().and_then(|part| part.strip_prefix(key));
        let header = decode(part("c=").ok_or(Wrong)?.as_bytes()).ok_or(Wrong)?;
        let nonce = part("r=").ok_or(Wrong)?;
        // Up to 2.6.0 librdkafka says its own part twice, which Apache Kafka takes as well.
        let once = match nonce.len() > self.nonce.len() {
            true => nonce.strip_prefix(&self.first.nonce).ok_or(Wrong)?,
            false => nonce,
        };
        let ours = header == self.first.header.as_bytes();
        if !ours || !same(once.as_bytes(), self.nonce.as_bytes()) {
            return Err(Wrong);
        }
        let proof = decode(proof.as_bytes()).ok_or(Wrong)?;
        let signed = format!("{},{},{unsigned}", self.first.bare, self.text);
        let kept = &self.credential;
        let signature = self.scram.sign(&kept.stored_key, signed.as_bytes());
        if proof.len() != signature.len() {
            return Err(Wrong);
        }
        let pairs = proof.iter().zip(&signature);
        let key: Vec<u8> = pairs.map(|(proof, sign)| proof ^ sign).collect();
        if !same(&self.scram.hash(&key), &kept.stored_key) {
            return Err(Wrong);
        }
        let shown = self.scram.sign(&kept.server_key, signed.as_bytes());
        Ok(format!("v={}", encode(&shown)))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    /// The exchange of RFC 7677, section 3.
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const ASKED: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SHOWN: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn credential(scram: Scram, password: &str) -> Credential {
        let salt = decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let iterations = NonZeroU32::new(4096).unwrap();
        let salted = scram.salted(password.as_bytes(), &salt, iterations);
        Credential::of_salted(scram, salt, iterations, &salted)
    }

    fn challenge(scram: Scram, first: &str) -> Challenge {
        let first = ClientFirst::read(first.as_bytes()).unwrap();
        Challenge::new(scram, first, credential(scram, "pencil"), NONCE)
    }

    /// What a client that knows this password would say.
    fn client(scram: Scram, first: &str, asked: &str, password: &str) -> String {
        client_with(scram, first, asked, password, "")
    }

    /// As [`client`], with something before the nonce.
    fn client_with(scram: Scram, first: &str, asked: &str, password: &str, more: &str) -> String {
        let mut parts = asked.split(',');
        let nonce = parts.next().unwrap();
        let salt = parts.next().unwrap().strip_prefix("s=").unwrap();
        let rounds = parts.next().unwrap().strip_prefix("i=").unwrap();
        let (salt, rounds) = (decode(salt.as_bytes()).unwrap(), rounds.parse().unwrap());
        let salted = scram.salted(password.as_bytes(), &salt, rounds);
        let bare = first.splitn(3, ',').nth(2).unwrap();
        let header = encode(&first.as_bytes()[..first.len() - bare.len()]);
        let nonce = nonce.strip_prefix("r=").unwrap();
        let unsigned = format!("c={header},r={more}{nonce}");
        let key = scram.sign(&salted, b"Client Key");
        let signed = format!("{bare},{asked},{unsigned}");
        let sign = scram.sign(&scram.hash(&key), signed.as_bytes());
        let proof: Vec<u8> = key.iter().zip(sign).map(|(a, b)| a ^ b).collect();
        format!("{unsigned},p={}", encode(&proof))
    }

    #[test]
    fn the_exchange_of_the_rfc_goes_through() {
        let challenge = challenge(Scram::Sha256, FIRST);
        assert_eq!(challenge.user(), "user");
        assert_eq!(challenge.text(), ASKED);
        assert_eq!(challenge.proved(FINAL.as_bytes()).as_deref(), Ok(SHOWN));
        assert_eq!(client(Scram::Sha256, FIRST, ASKED, "pencil"), FINAL);
    }

    #[test]
    fn whoever_knows_the_password_is_in_and_nobody_else() {
        for scram in Scram::ALL {
            for first in [
                FIRST,
                "y,,n=user,r=abc",
                "n,a=user,n=user,r=abc",
                "n,,n=a=2Cb=3Dc,r=abc",
                "n,,n=\u{e5}lice,r=abc,x=more",
            ] {
                let challenge = challenge(scram, first);
                let good = client(scram, first, challenge.text(), "pencil");
                assert!(challenge.proved(good.as_bytes()).is_ok(), "{first}");
                let bad = client(scram, first, challenge.text(), "Pencil");
                assert_eq!(challenge.proved(bad.as_bytes()), Err(Wrong), "{first}");
            }
        }
        assert_eq!(
            challenge(Scram::Sha256, "n,,n=a=2Cb=3Dc,r=x").user(),
            "a,b=c"
        );
    }

    #[test]
    fn an_old_librdkafka_says_its_nonce_twice_and_is_let_in() {
        let first = "n,,n=user,r=abc";
        let challenge = challenge(Scram::Sha512, first);
        let says = |more| client_with(Scram::Sha512, first, challenge.text(), "pencil", more);
        assert!(challenge.proved(says("abc").as_bytes()).is_ok());
        for more in ["abcabc", "abd", "ab", "x"] {
            assert_eq!(
                challenge.proved(says(more).as_bytes()),
                Err(Wrong),
                "{more}"
            );
        }
    }

    #[test]
    fn what_is_no_first_message_is_refused() {
        let long = format!("n,,n=user,r={}", "x".repeat(SCRAM_NONCE_MAX_BYTES + 1));
        for wrong in [
            "",
            ",",
            "n,,",
            "n,",
            "n,,n=user",
            "n,,n=user,r=",
            "n,,r=abc,n=user",
            "p=tls-unique,,n=user,r=abc",
            "x,,n=user,r=abc",
            "n,,m=ext,n=user,r=abc",
            "n,,n=,r=abc",
            "n,,n=us=er,r=abc",
            "n,,n=us=2cer,r=abc",
            "n,,n=user,r=a c",
            "n,,n=user,r=\u{e5}",
            "n,a=other,n=user,r=abc",
            "n,other,n=user,r=abc",
            "n,,n=user,r=abc,tokenauth=true",
            "n,,n=user,r=abc,more",
            long.as_str(),
        ] {
            assert_eq!(ClientFirst::read(wrong.as_bytes()), Err(Wrong), "{wrong}");
        }
        assert_eq!(ClientFirst::read(b"n,,n=\xff,r=abc"), Err(Wrong));
    }

    #[test]
    fn what_is_no_last_message_is_refused() {
        let challenge = challenge(Scram::Sha256, FIRST);
        for wrong in [
            String::new(),
            FINAL.replace("c=biws", "c=eSws"),
            FINAL.replace("c=biws", "c=?"),
            FINAL.replace("c=biws,", ""),
            FINAL.replace("hNlF$k0", "hNlF$k1"),
            FINAL.replace("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", ""),
            FINAL.replace("p=d", "p=e"),
            FINAL.replace("dVQ=", ""),
            FINAL.replace(",p=", ",q="),
            format!("{FINAL}AAAA"),
            FIRST.to_owned(),
        ] {
            assert_eq!(challenge.proved(wrong.as_bytes()), Err(Wrong), "{wrong}");
        }
    }

    #[test]
    fn no_change_of_one_byte_and_no_beginning_gets_in() {
        let challenge = challenge(Scram::Sha256, FIRST);
        let good = FINAL.as_bytes();
        for at in 0..good.len() {
            assert_eq!(challenge.proved(&good[..at]), Err(Wrong));
            for bit in 0..8 {
                let mut other = good.to_vec();
                other[at] ^= 1 << bit;
                assert_eq!(challenge.proved(&other), Err(Wrong), "{at} {bit}");
            }
        }
        for at in 0..FIRST.len() {
            for byte in 0..=255 {
                let mut other = FIRST.as_bytes().to_vec();
                other[at] = byte;
                // It ends, and what it reads is within bounds.
                if let Ok(first) = ClientFirst::read(&other) {
                    assert!(!first.user.is_empty() && !first.nonce.is_empty());
                }
            }
        }
    }
}
