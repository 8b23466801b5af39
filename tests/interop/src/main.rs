//! A PQNoise and KEM peer out of public crates, driven line by line over standard input and output.
//!
//! The handshake, its hash and its cipher are those of clatter; the KEMs are RustCrypto's ml-kem and
//! x-wing behind clatter's KEM interface. Nothing here is taken from pqdht. One command a line, words
//! between single spaces, bytes in hexadecimal ("-" for none); each is answered by one line, `ok` and
//! values, or `error` and why. After an error clatter refuses to go on with a handshake.
//!
//!     start KEM PATTERN ROLE PROLOGUE RS   begin a handshake        -> our static public key
//!     write PAYLOAD                        our next message         -> the message
//!     read MESSAGE                         the peer's next message  -> its payload
//!     finish                               after the last           -> handshake hash, the peer's static key
//!     send TEXT | receive MESSAGE          a transport message      -> the message | its text
//!     rekey-send | rekey-receive           Noise's Rekey            -> nothing
//!     public KEM SEED                                               -> public key
//!     encapsulate KEM PUBLIC COINS                                  -> ciphertext, shared secret
//!     decapsulate KEM SEED CIPHERTEXT                               -> shared secret

use std::io::{self, BufRead, Write};

use clatter::bytearray::{ByteArray, HeapArray, SensitiveByteArray};
use clatter::crypto::cipher::ChaChaPoly;
use clatter::crypto::hash::Sha256;
use clatter::crypto::rng::DefaultRng;
use clatter::error::{KemError, KemResult};
use clatter::handshakepattern::{noise_pqik, noise_pqxx};
use clatter::traits::{CryptoComponent, Handshaker, Kem, Rng};
use clatter::transportstate::TransportState;
use clatter::{KeyPair, PqHandshake};
use ml_kem::{ml_kem_1024, ml_kem_768};
use x_wing::{Decapsulate, Decapsulator, KeyExport, KeyInit, TryKeyInit};

/// The longest Noise message, and so the longest payload.
const MAX_MESSAGE: usize = 65535;

type Answer = Result<Vec<Vec<u8>>, String>;
type Transport = TransportState<ChaChaPoly, Sha256>;

fn text(e: impl std::fmt::Debug) -> String {
    format!("{e:?}")
}

// --- KEMs --------------------------------------------------------------------------------------

/// What the commands on bare KEMs need beyond clatter's interface.
trait BareKem {
    fn public(seed: &[u8]) -> Result<Vec<u8>, String>;
    fn encapsulate_with(public: &[u8], coins: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String>;
    fn decapsulate_with(seed: &[u8], ciphertext: &[u8]) -> Result<Vec<u8>, String>;
}

/// A KEM of RustCrypto as a KEM of clatter; its secret key is the seed.
macro_rules! kem {
    ($kem:ident, $name:literal, $keys:path, $seed:literal, $coins:literal, $public:literal, $ciphertext:literal) => {
        #[derive(Clone)]
        struct $kem;

        const _: () = {
            use $keys as keys;

            impl BareKem for $kem {
                fn public(seed: &[u8]) -> Result<Vec<u8>, String> {
                    let key = keys::DecapsulationKey::new_from_slice(seed).map_err(text)?;
                    Ok(key.encapsulation_key().to_bytes().to_vec())
                }

                fn encapsulate_with(
                    public: &[u8],
                    coins: &[u8],
                ) -> Result<(Vec<u8>, Vec<u8>), String> {
                    let coins = coins
                        .try_into()
                        .map_err(|_| "the coins have the wrong length")?;
                    let key = keys::EncapsulationKey::new_from_slice(public).map_err(text)?;
                    let (ciphertext, secret) = key.encapsulate_deterministic(coins);
                    Ok((ciphertext.to_vec(), secret.to_vec()))
                }

                fn decapsulate_with(seed: &[u8], ciphertext: &[u8]) -> Result<Vec<u8>, String> {
                    let ciphertext = ciphertext
                        .try_into()
                        .map_err(|_| "the ciphertext has the wrong length")?;
                    let key = keys::DecapsulationKey::new_from_slice(seed).map_err(text)?;
                    Ok(key.decapsulate(ciphertext).to_vec())
                }
            }
        };

        impl CryptoComponent for $kem {
            fn name() -> &'static str {
                $name
            }
        }

        impl Kem for $kem {
            type SecretKey = SensitiveByteArray<[u8; $seed]>;
            type PubKey = HeapArray<$public>;
            type Ct = HeapArray<$ciphertext>;
            type Ss = SensitiveByteArray<[u8; 32]>;

            fn genkey_rng<R: Rng>(
                rng: &mut R,
            ) -> KemResult<KeyPair<Self::PubKey, Self::SecretKey>> {
                let mut seed = [0; $seed];
                rng.fill_bytes(&mut seed);
                let public = Self::public(&seed).map_err(|_| KemError::KeyGeneration)?;
                Ok(KeyPair {
                    public: ByteArray::from_slice(&public),
                    secret: SensitiveByteArray::from_slice(&seed),
                })
            }

            fn encapsulate<R: Rng>(public: &[u8], rng: &mut R) -> KemResult<(Self::Ct, Self::Ss)> {
                let mut coins = [0; $coins];
                rng.fill_bytes(&mut coins);
                let (ciphertext, secret) =
                    Self::encapsulate_with(public, &coins).map_err(|_| KemError::Input)?;
                Ok((
                    ByteArray::from_slice(&ciphertext),
                    ByteArray::from_slice(&secret),
                ))
            }

            fn decapsulate(ciphertext: &[u8], seed: &[u8]) -> KemResult<Self::Ss> {
                let secret =
                    Self::decapsulate_with(seed, ciphertext).map_err(|_| KemError::Input)?;
                Ok(ByteArray::from_slice(&secret))
            }
        }
    };
}

kem!(MlKem768, "MLKEM768", ml_kem_768, 64, 32, 1184, 1088);
kem!(MlKem1024, "MLKEM1024", ml_kem_1024, 64, 32, 1568, 1568);
kem!(XWing, "XWing", x_wing, 32, 64, 1216, 1120);

// --- Noise -------------------------------------------------------------------------------------

/// A handshake of any KEM.
trait Handshake {
    fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, String>;
    fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, String>;
    fn finish(self: Box<Self>) -> Result<(Transport, Vec<u8>), String>;
}

struct Peer<K: Kem>(PqHandshake<K, K, ChaChaPoly, Sha256>);

impl<K: Kem> Handshake for Peer<K> {
    fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = vec![0; MAX_MESSAGE];
        let n = self.0.write_message(payload, &mut out).map_err(text)?;
        out.truncate(n);
        Ok(out)
    }

    fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = vec![0; MAX_MESSAGE];
        let n = self.0.read_message(message, &mut out).map_err(text)?;
        out.truncate(n);
        Ok(out)
    }

    fn finish(self: Box<Self>) -> Result<(Transport, Vec<u8>), String> {
        let key = self
            .0
            .get_remote_static()
            .ok_or("the peer's static key is not known")?;
        Ok((self.0.finalize().map_err(text)?, key.as_slice().to_vec()))
    }
}

fn start<K: Kem + 'static>(
    pattern: &str,
    role: &str,
    prologue: &[u8],
    rs: &[u8],
) -> Result<(Box<dyn Handshake>, Vec<u8>), String> {
    let pattern = match pattern {
        "pqIK" => noise_pqik(),
        "pqXX" => noise_pqxx(),
        _ => return Err("the pattern is pqIK or pqXX".into()),
    };
    let initiator = match role {
        "initiator" => true,
        "responder" => false,
        _ => return Err("the role is initiator or responder".into()),
    };
    if !rs.is_empty() && rs.len() != K::PubKey::len() {
        return Err("the static key has the wrong length".into());
    }
    let rs = (!rs.is_empty()).then(|| K::PubKey::from_slice(rs));
    let s = K::genkey_rng(&mut DefaultRng).map_err(text)?;
    let public = s.public.as_slice().to_vec();
    let handshake = PqHandshake::<K, K, ChaChaPoly, Sha256>::new(
        pattern,
        prologue,
        initiator,
        Some(s),
        None,
        rs,
        None,
    )
    .map_err(text)?;
    Ok((Box::new(Peer(handshake)), public))
}

// --- commands ----------------------------------------------------------------------------------

/// An expression with `K` the KEM of that name.
macro_rules! with_kem {
    ($name:expr, $k:ident => $do:expr) => {
        match $name {
            "MLKEM768" => {
                type $k = MlKem768;
                $do
            }
            "MLKEM1024" => {
                type $k = MlKem1024;
                $do
            }
            "XWing" => {
                type $k = XWing;
                $do
            }
            _ => return Err("the KEM is MLKEM768, MLKEM1024 or XWing".into()),
        }
    };
}

#[derive(Default)]
struct State {
    handshake: Option<Box<dyn Handshake>>,
    transport: Option<Transport>,
}

impl State {
    fn handshake(&mut self) -> Result<&mut Box<dyn Handshake>, String> {
        self.handshake
            .as_mut()
            .ok_or_else(|| "there is no handshake".into())
    }

    fn transport(&mut self) -> Result<&mut Transport, String> {
        self.transport
            .as_mut()
            .ok_or_else(|| "there is no session".into())
    }

    fn obey(&mut self, line: &str) -> Answer {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["start", kem, pattern, role, prologue, rs] => {
                let (prologue, rs) = (bytes(prologue)?, bytes(rs)?);
                *self = Self::default();
                let (handshake, public) =
                    with_kem!(*kem, K => start::<K>(pattern, role, &prologue, &rs)?);
                self.handshake = Some(handshake);
                Ok(vec![public])
            }
            ["write", payload] => Ok(vec![self.handshake()?.write(&bytes(payload)?)?]),
            ["read", message] => Ok(vec![self.handshake()?.read(&bytes(message)?)?]),
            ["finish"] => {
                let handshake = self.handshake.take().ok_or("there is no handshake")?;
                let (transport, rs) = handshake.finish()?;
                let hash = transport.get_handshake_hash().as_slice().to_vec();
                self.transport = Some(transport);
                Ok(vec![hash, rs])
            }
            ["send", plain] => Ok(vec![self
                .transport()?
                .send_vec(&bytes(plain)?)
                .map_err(text)?]),
            ["receive", sealed] => Ok(vec![self
                .transport()?
                .receive_vec(&bytes(sealed)?)
                .map_err(text)?]),
            ["rekey-send"] => self
                .transport()?
                .rekey_sender()
                .map(|()| vec![])
                .map_err(text),
            ["rekey-receive"] => self
                .transport()?
                .rekey_receiver()
                .map(|()| vec![])
                .map_err(text),
            ["public", kem, seed] => {
                let seed = bytes(seed)?;
                Ok(vec![with_kem!(*kem, K => K::public(&seed)?)])
            }
            ["encapsulate", kem, public, coins] => {
                let (public, coins) = (bytes(public)?, bytes(coins)?);
                let (ciphertext, secret) =
                    with_kem!(*kem, K => K::encapsulate_with(&public, &coins)?);
                Ok(vec![ciphertext, secret])
            }
            ["decapsulate", kem, seed, ciphertext] => {
                let (seed, ciphertext) = (bytes(seed)?, bytes(ciphertext)?);
                Ok(vec![
                    with_kem!(*kem, K => K::decapsulate_with(&seed, &ciphertext)?),
                ])
            }
            _ => Err("no such command".into()),
        }
    }
}

fn bytes(word: &str) -> Result<Vec<u8>, String> {
    if word == "-" {
        return Ok(vec![]);
    }
    if word.len() % 2 != 0 || !word.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err("bytes are hexadecimal".into());
    }
    (0..word.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&word[i..i + 2], 16).map_err(text))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".into();
    }
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn main() -> io::Result<()> {
    let mut state = State::default();
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        match state.obey(&line?) {
            Ok(values) => {
                let words = ["ok".into()]
                    .into_iter()
                    .chain(values.iter().map(|v| hex(v)));
                writeln!(out, "{}", words.collect::<Vec<String>>().join(" "))?;
            }
            Err(why) => writeln!(out, "error {}", why.replace('\n', " "))?,
        }
        out.flush()?;
    }
    Ok(())
}
