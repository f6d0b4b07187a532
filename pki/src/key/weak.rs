//! Detects well-formed public keys that are not secure: anyone can compute the private key, or forge signatures without
//! it.
//!
//! It never decides which kinds and sizes of keys are certified; [`super`] does. Every check is bounded, because anyone
//! with a token can send any key: some milliseconds of CPU, or a few tens for an RSA modulus of 4096 bits.

use std::sync::LazyLock;

use num_bigint::BigUint;

use crate::der::{self, DerError, Reader};

/// The lowest RSA exponent that is certified. Almost all keys have it.
const LOWEST_EXPONENT: u64 = 65_537;
/// The highest RSA exponent that is certified. Some TLS libraries (Go, Windows) read no higher one, and verification
/// takes longer with a long exponent.
const HIGHEST_EXPONENT: u64 = 1 << 32;
/// Trial division finds factors below this.
const SMALL: u32 = 1 << 16;
/// Steps of Fermat's method. They find factors that have a few more than half of their bits in common.
const FERMAT_STEPS: u32 = 128;

/// Why a public key is not secure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// A constant signature is valid for this key, for every message or for one in a few.
    #[error("it is an Ed25519 point of small order, for which anyone can forge signatures")]
    SmallOrder,
    /// With this exponent signatures are easy to forge, or other libraries cannot use the key.
    #[error("its public exponent is not an odd number from {LOWEST_EXPONENT} to {HIGHEST_EXPONENT}")]
    Exponent,
    /// The modulus is its own only factor, so the private exponent follows from the public one.
    #[error("its modulus is a prime number")]
    Prime,
    /// Trial division found a factor.
    #[error("its modulus has the small factor {0}")]
    SmallFactor(u32),
    /// Fermat's method found the factors.
    #[error("the two factors of its modulus are so close to each other that anyone can compute them")]
    CloseFactors,
    /// CVE-2017-15361: keys that some smart cards and TPMs generated.
    #[error("its modulus has the form of those whose factors can be computed (ROCA, CVE-2017-15361)")]
    Roca,
}

/// The y coordinates of the eight points of small order in Ed25519's encoding (RFC 8032 section 5.1.2), without the
/// sign of x. Two of them have a second encoding, with the field's prime added.
const SMALL_ORDER: [[u8; 32]; 7] = {
    const fn edges(low: u8, high: u8, last: u8) -> [u8; 32] {
        let mut y = [high; 32];
        y[0] = low;
        y[31] = last;
        y
    }
    [
        // Orders 4, 1 and 2.
        edges(0, 0, 0),
        edges(1, 0, 0),
        edges(0xec, 0xff, 0x7f),
        // 0 and 1, second encoding.
        edges(0xed, 0xff, 0x7f),
        edges(0xee, 0xff, 0x7f),
        // Order 8.
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ]
};

/// Checks an Ed25519 public key.
pub(super) fn check_ed25519(key: &[u8]) -> Result<(), Weakness> {
    let Some((last, rest)) = key.split_last() else { return Ok(()) };
    let is_small = |y: &[u8; 32]| rest == &y[..31] && last & 0x7f == y[31];
    if SMALL_ORDER.iter().any(is_small) { Err(Weakness::SmallOrder) } else { Ok(()) }
}

/// Whether this `SubjectPublicKeyInfo` has an Ed25519 point of small order. Such a key proves nothing, whichever CA has
/// certified it.
#[must_use]
pub fn is_of_small_order(spki: &[u8]) -> bool {
    /// `SEQUENCE { SEQUENCE { id-Ed25519 1.3.101.112 }, BIT STRING` and the length of the contents (RFC 8410 section
    /// 4).
    const HEAD: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    spki.strip_prefix(HEAD).is_some_and(|key| check_ed25519(key).is_err())
}

/// The two numbers of an `RSAPublicKey` (RFC 8017 appendix A.1.1): the unsigned big-endian bytes of the encoding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rsa<'a> {
    modulus: &'a [u8],
    exponent: &'a [u8],
}

impl<'a> Rsa<'a> {
    pub(super) fn read(key: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Reader::new(key);
        let mut numbers = outer.sequence()?;
        outer.finish()?;
        let [modulus, exponent] = [numbers.expect(der::INTEGER)?, numbers.expect(der::INTEGER)?];
        numbers.finish()?;
        Ok(Self { modulus, exponent })
    }

    /// The modulus's length.
    pub(super) fn bits(&self) -> usize {
        let first = self.modulus.iter().position(|byte| *byte != 0).unwrap_or(self.modulus.len());
        let significant = &self.modulus[first..];
        significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
    }

    /// Checks the key, the cheapest checks first.
    pub(super) fn check(&self) -> Result<(), Weakness> {
        let exponent = u64::try_from(BigUint::from_bytes_be(self.exponent)).unwrap_or(u64::MAX);
        if !(LOWEST_EXPONENT..=HIGHEST_EXPONENT).contains(&exponent) || exponent % 2 == 0 {
            return Err(Weakness::Exponent);
        }
        let modulus = BigUint::from_bytes_be(self.modulus);
        if let Some(factor) = small_factor(&modulus) {
            return Err(Weakness::SmallFactor(factor));
        }
        if has_roca_form(&modulus) {
            return Err(Weakness::Roca);
        }
        if has_close_factors(&modulus) {
            return Err(Weakness::CloseFactors);
        }
        if is_probably_prime(&modulus) { Err(Weakness::Prime) } else { Ok(()) }
    }
}

/// Every prime below [`SMALL`], in rising order.
static SMALL_PRIMES: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let mut is_composite = vec![false; SMALL as usize];
    let mut primes = Vec::new();
    for number in 2..SMALL {
        if !is_composite[number as usize] {
            primes.push(number);
            for multiple in (number * 2..SMALL).step_by(number as usize) {
                is_composite[multiple as usize] = true;
            }
        }
    }
    primes
});

fn small_factor(number: &BigUint) -> Option<u32> {
    // One long division for four primes, because their product fits into 64 bits.
    SMALL_PRIMES.chunks(4).find_map(|primes| {
        let product: u64 = primes.iter().copied().map(u64::from).product();
        let rest = remainder(number, product);
        primes.iter().copied().find(|prime| rest.is_multiple_of(u64::from(*prime)))
    })
}

fn remainder(number: &BigUint, divisor: u64) -> u64 {
    u64::try_from(number % divisor).expect("a remainder is smaller than its divisor")
}

/// Whether the number is a power of 65537 modulo each of the primes that distinguish. Both factors of a vulnerable
/// modulus are, so the modulus is too. About one in a hundred million other moduli is so by chance (Nemec et al., The
/// Return of Coppersmith's Attack, section 3.4).
fn has_roca_form(number: &BigUint) -> bool {
    const PRIMES: [u64; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.into_iter().all(|prime| {
        let rest = remainder(number, prime);
        std::iter::successors(Some(1), |power| Some(power * 65_537 % prime))
            .zip(0..prime)
            .any(|(power, _)| power == rest)
    })
}

/// Fermat's method: searches `a` just above the root of `n` with `n = a² - b²`.
fn has_close_factors(number: &BigUint) -> bool {
    let root = number.sqrt();
    let least = if &root * &root == *number { root } else { root + 1u32 };
    (0..FERMAT_STEPS).map(|step| &least + step).any(|a| is_square(&(&a * &a - number)))
}

fn is_square(number: &BigUint) -> bool {
    // Remainders of squares modulo 64 and some small numbers. They exclude most candidates before the slow square root.
    let may_be = [64, 63, 65, 11, 17, 19, 23].into_iter().all(|modulus: u64| {
        let rest = remainder(number, modulus);
        (0..modulus).any(|root| root * root % modulus == rest)
    });
    may_be && {
        let root = number.sqrt();
        &root * &root == *number
    }
}

/// One round of the Miller-Rabin test with base 2. Every odd prime passes. A product of two random primes almost never
/// does.
fn is_probably_prime(number: &BigUint) -> bool {
    let one = BigUint::from(1u32);
    let less = number - &one;
    let Some(twos) = less.trailing_zeros() else { return false };
    let mut power = BigUint::from(2u32).modpow(&(&less >> twos), number);
    if power == one || power == less {
        return true;
    }
    for _ in 1..twos {
        power = &power * &power % number;
        if power == less {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// A prime of 2203 bits, found by Mersenne and Robinson.
    fn prime() -> BigUint {
        (BigUint::from(1u32) << 2203u32) - 1u32
    }

    fn judge(modulus: &BigUint, exponent: u64) -> Result<(), Weakness> {
        let integer = |bytes: &[u8]| der::encode(der::INTEGER, &[&[0], bytes].concat());
        let numbers = [integer(&modulus.to_bytes_be()), integer(&exponent.to_be_bytes())].concat();
        let key = der::encode(der::SEQUENCE, &numbers);
        let key = Rsa::read(&key).unwrap();
        assert_eq!(key.bits() as u64, modulus.bits());
        key.check()
    }

    /// The product of two odd numbers of 1030 bits without small factors, at this distance from each other.
    fn product(distance: &BigUint) -> BigUint {
        let without_factor = |from: BigUint| {
            let mut number = from | BigUint::from(1u32);
            while small_factor(&number).is_some() {
                number += 2u32;
            }
            number
        };
        let first = without_factor(BigUint::from(3u32).pow(650));
        without_factor(&first + distance + 2u32) * first
    }

    #[test]
    fn a_modulus_that_is_easy_to_factor_is_refused() {
        let far = BigUint::from(1u32) << 1000u32;
        assert_eq!(judge(&product(&far), 65_537), Ok(()));
        assert_eq!(judge(&prime(), 65_537), Err(Weakness::Prime));
        assert_eq!(judge(&(prime() * 65_521u32), 65_537), Err(Weakness::SmallFactor(65_521)));
        assert_eq!(judge(&(prime() + 1u32), 65_537), Err(Weakness::SmallFactor(2)));
        assert_eq!(judge(&(prime() * prime()), 65_537), Err(Weakness::CloseFactors), "a square");
        for near in [BigUint::from(1u32), BigUint::from(1u32) << 514u32] {
            assert_eq!(judge(&product(&near), 65_537), Err(Weakness::CloseFactors));
        }
    }

    #[test]
    fn roca_keys_are_detected() {
        // How the vulnerable library generated primes: k * M + (65537 ^ a mod M), where M is the product of the first
        // primes.
        let product: BigUint = SMALL_PRIMES.iter().take(126).copied().map(BigUint::from).product();
        let drawn = |k: u32, a: u32| BigUint::from(65_537u32).modpow(&a.into(), &product) + &product * k;
        let mut moduli =
            (1u32..).map(|k| drawn(k, 4711 + k) * drawn(k + 70, 815)).filter(|modulus| small_factor(modulus).is_none());
        let modulus = moduli.next().unwrap();
        assert!((1900..2100).contains(&modulus.bits()), "{}", modulus.bits());
        assert_eq!(judge(&modulus, 65_537), Err(Weakness::Roca));
    }

    #[test]
    fn an_exponent_is_odd_and_neither_small_nor_long() {
        let modulus = product(&(BigUint::from(1u32) << 1000u32));
        for bad in [0, 1, 3, 17, 65_535, 65_538, HIGHEST_EXPONENT, HIGHEST_EXPONENT + 1, u64::MAX] {
            assert_eq!(judge(&modulus, bad), Err(Weakness::Exponent), "{bad}");
        }
        assert_eq!(judge(&modulus, HIGHEST_EXPONENT - 1), Ok(()));
    }

    #[test]
    fn a_malformed_rsa_key_is_refused() {
        for bad in [&[][..], &[0x30, 0], &[0x30, 3, 2, 1, 5], &[0x30, 6, 2, 1, 5, 2, 1, 3, 0]] {
            assert!(Rsa::read(bad).is_err(), "{bad:?}");
        }
        let zero = Rsa { modulus: &[0], exponent: &[0] };
        assert_eq!((zero.bits(), zero.check()), (0, Err(Weakness::Exponent)));
        assert!(Rsa { modulus: &[0], exponent: &[1, 0, 1] }.check().is_err());
        assert!(Rsa { modulus: &[1], exponent: &[1, 0, 1] }.check().is_err());
    }

    #[test]
    fn a_constant_signature_verifies_under_each_point_of_small_order() {
        // The neutral element and a zero scalar. It is valid if the message's digest is a multiple of the point's
        // order.
        let constant = [&[1][..], &[0; 63]].concat();
        for (index, y) in SMALL_ORDER.into_iter().enumerate() {
            for sign in [0, 0x80] {
                let mut point = y;
                point[31] |= sign;
                assert_eq!(check_ed25519(&point), Err(Weakness::SmallOrder));
                let is_signed =
                    |message: u8| UnparsedPublicKey::new(&ED25519, point).verify(&[message], &constant).is_ok();
                // Only some libraries read a y that is not reduced, or an x of zero with a sign.
                let is_canonical = !(3..5).contains(&index) && (sign == 0 || !(1..3).contains(&index));
                assert!(!is_canonical || (0..=u8::MAX).any(is_signed), "{point:02x?}");
            }
        }
        let base = [&[0x58][..], &[0x66; 31]].concat();
        assert_eq!(check_ed25519(&base), Ok(()), "the base point has a large order");
    }
}
