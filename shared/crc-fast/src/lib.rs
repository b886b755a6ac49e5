//! S3's checksums, with as much of the interface of the crate `crc-fast` as the S3 SDK and the embedded S3 use. The
//! workspace's manifest puts this crate in that one's place.
//!
//! For processors without the instructions that it wants, as Lambda has none, that crate carries tables of fifty
//! algorithms: 0.7 MB of each function that no zip makes smaller. Here CRC-32, which uploads have, is `crc32fast`'s; the
//! two others, which only objects of somebody else's have, use tables that are made when they are first needed.
//! docs/adr/0009 weighs it.

use std::fmt;
use std::iter::zip;
use std::sync::LazyLock;

/// Which checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrcAlgorithm {
    /// CRC-32 as zip and gzip have it, S3's `CRC32`.
    Crc32IsoHdlc,
    /// The Castagnoli polynomial, S3's `CRC32C`.
    Crc32Iscsi,
    /// S3's `CRC64NVME`, which S3 itself adds to objects that came without a checksum.
    Crc64Nvme,
}

/// A checksum of bytes that come in pieces.
#[derive(Clone)]
pub struct Digest(State);

#[derive(Clone)]
enum State {
    Crc32(crc32fast::Hasher),
    Sliced {
        tables: &'static Tables,
        register: u64,
        /// Ones, as many as the checksum has bits: what the register begins with, and is inverted by in the end.
        ones: u64,
    },
}

impl Digest {
    /// The checksum of nothing yet.
    #[must_use]
    pub fn new(algorithm: CrcAlgorithm) -> Self {
        let sliced = |tables, ones| State::Sliced {
            tables,
            register: ones,
            ones,
        };
        Self(match algorithm {
            CrcAlgorithm::Crc32IsoHdlc => State::Crc32(crc32fast::Hasher::new()),
            CrcAlgorithm::Crc32Iscsi => sliced(&*CASTAGNOLI, u64::from(u32::MAX)),
            CrcAlgorithm::Crc64Nvme => sliced(&*NVME, u64::MAX),
        })
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Crc32(hasher) => hasher.update(bytes),
            State::Sliced {
                tables, register, ..
            } => *register = tables.after(*register, bytes),
        }
    }

    /// The checksum of all bytes so far, in the low bits.
    #[must_use]
    pub fn finalize(&self) -> u64 {
        match &self.0 {
            State::Crc32(hasher) => hasher.clone().finalize().into(),
            State::Sliced { register, ones, .. } => register ^ ones,
        }
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({:x})", self.finalize())
    }
}

/// The checksum of bytes that are all there.
#[must_use]
pub fn checksum(algorithm: CrcAlgorithm, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new(algorithm);
    digest.update(bytes);
    digest.finalize()
}

static CASTAGNOLI: LazyLock<Tables> = LazyLock::new(|| Tables::of(0x82f6_3b78));
static NVME: LazyLock<Tables> = LazyLock::new(|| Tables::of(0x9a6c_9329_ac4b_c9b5));

/// What a byte does to the register, as such and with one to seven bytes after it: eight bytes are taken at once.
struct Tables([[u64; 256]; 8]);

impl Tables {
    /// Of a polynomial whose highest power is the lowest bit.
    fn of(polynomial: u64) -> Self {
        let mut tables = [[0; 256]; 8];
        for (entry, byte) in zip(&mut tables[0], 0..) {
            *entry = (0..8).fold(byte, |register: u64, _| {
                (register >> 1) ^ (polynomial * (register & 1))
            });
        }
        for next in 1..tables.len() {
            for byte in 0..256 {
                tables[next][byte] = shifted(&tables[0], tables[next - 1][byte], 0);
            }
        }
        Self(tables)
    }

    /// The register after these bytes.
    fn after(&self, register: u64, bytes: &[u8]) -> u64 {
        let (words, rest) = bytes.as_chunks::<8>();
        let register = words.iter().fold(register, |register, word| {
            let mixed = (register ^ u64::from_le_bytes(*word)).to_le_bytes();
            let parts = zip(self.0.iter().rev(), mixed);
            parts.fold(0, |sum, (table, byte)| sum ^ table[usize::from(byte)])
        });
        let one = |register, byte: &u8| shifted(&self.0[0], register, *byte);
        rest.iter().fold(register, one)
    }
}

/// The register after one byte more.
fn shifted(table: &[u64; 256], register: u64, byte: u8) -> u64 {
    let [low, ..] = register.to_le_bytes();
    (register >> 8) ^ table[usize::from(low ^ byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [CrcAlgorithm; 3] = [
        CrcAlgorithm::Crc32IsoHdlc,
        CrcAlgorithm::Crc32Iscsi,
        CrcAlgorithm::Crc64Nvme,
    ];

    #[test]
    fn published_check_values_come_out() {
        let checks: [u64; 3] = [0xcbf4_3926, 0xe306_9283, 0xae8b_1486_0a79_9888];
        for (algorithm, check) in zip(ALL, checks) {
            assert_eq!(checksum(algorithm, b"123456789"), check, "{algorithm:?}");
            assert_eq!(checksum(algorithm, b""), 0, "{algorithm:?}");
        }
        // RFC 3720, B.4, and the NVM command set specification, 5.2.1.3.5.
        assert_eq!(checksum(CrcAlgorithm::Crc32Iscsi, &[0; 32]), 0x8a91_36aa);
        assert_eq!(checksum(CrcAlgorithm::Crc32Iscsi, &[255; 32]), 0x62a8_ab43);
        let nvme = |byte| checksum(CrcAlgorithm::Crc64Nvme, &[byte; 4096]);
        assert_eq!(nvme(0), 0x6482_d367_eb22_b64e);
        assert_eq!(nvme(255), 0xc0dd_ba73_02ec_a3ac);
    }

    /// The definition, a bit at a time.
    fn defined(polynomial: u64, ones: u64, bytes: &[u8]) -> u64 {
        let register = bytes.iter().fold(ones, |register, byte| {
            (0..8).fold(register ^ u64::from(*byte), |register, _| {
                (register >> 1) ^ (polynomial * (register & 1))
            })
        });
        register ^ ones
    }

    #[test]
    fn pieces_of_any_length_come_to_what_the_whole_does() {
        let bytes: Vec<u8> = (0..200_u8).map(|it| it.wrapping_mul(77)).collect();
        let polynomials = [0xedb8_8320, 0x82f6_3b78, 0x9a6c_9329_ac4b_c9b5];
        for (algorithm, polynomial) in zip(ALL, polynomials) {
            let ones = match algorithm {
                CrcAlgorithm::Crc64Nvme => u64::MAX,
                _ => u32::MAX.into(),
            };
            for cut in 0..bytes.len() {
                let expected = defined(polynomial, ones, &bytes[..cut]);
                assert_eq!(
                    checksum(algorithm, &bytes[..cut]),
                    expected,
                    "{algorithm:?} {cut}"
                );
                let mut digest = Digest::new(algorithm);
                digest.update(&bytes[..cut]);
                assert_eq!(digest.finalize(), expected);
                digest.update(&bytes[cut..]);
                let whole = defined(polynomial, ones, &bytes);
                assert_eq!(digest.finalize(), whole, "{algorithm:?} {cut}");
                assert_eq!(format!("{digest:?}"), format!("Digest({whole:x})"));
            }
        }
    }
}
