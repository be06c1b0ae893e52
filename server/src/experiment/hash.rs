//! Who is where, as a pure function that services in other languages can compute: GrowthBook's hashes, version 2 for buckets and version 1 for
//! namespaces (<https://docs.growthbook.io/lib/build-your-own>). JavaScript's strings are UTF-16, and so is what is hashed.

/// How many buckets shoppers fall into.
pub const BUCKETS: usize = 10_000;

/// FNV-1a of 32 bits over UTF-16 code units, each taken whole as JavaScript's `charCodeAt` gives it.
fn fnv1a(units: impl Iterator<Item = u16>) -> u32 {
    units.fold(0x811c_9dc5, |hash: u32, unit| (hash ^ u32::from(unit)).wrapping_mul(0x0100_0193))
}

/// The bucket of a unit, from 0: `fnv1a(fnv1a(seed + unit) + "") % 10000`.
pub fn bucket(seed: &str, unit: &str) -> usize {
    let once = fnv1a(seed.encode_utf16().chain(unit.encode_utf16()));
    fnv1a(once.to_string().encode_utf16()) as usize % BUCKETS
}

/// Where a unit is in a namespace, from 0 to below 1: `fnv1a(unit + "__" + namespace) % 1000 / 1000`.
pub fn place_in(namespace: &str, unit: &str) -> f64 {
    let text = unit.encode_utf16().chain("__".encode_utf16()).chain(namespace.encode_utf16());
    f64::from(fnv1a(text) % 1_000) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::{super::statistics::sample_ratio_mismatch, *};

    /// Those of version 2 in GrowthBook's `cases.json`, and what its JavaScript gives for ids beyond ASCII.
    #[test]
    fn buckets_are_those_of_growthbook() {
        for (seed, unit, expected) in [
            ("seed", "a", 505),
            ("seed", "b", 2_696),
            ("foo", "ab", 2_575),
            ("foo", "def", 2_019),
            ("89123klj", "8952klfjas09ujkasdf", 1_240),
            ("90850943850283058242805", "123", 7_516),
            ("()**(%$##$%#$#", "___)((*\":&", 128),
            ("search-encoder", "käufer-7", 8_201),
            ("search-encoder", "顧客", 4_025),
            ("search-encoder", "🛒42", 8_076),
        ] {
            assert_eq!(bucket(seed, unit), expected, "{seed} {unit}");
        }
    }

    /// As the hash shares people out, so does chance: in a thousand experiments a mismatch is found about as often as its level says.
    #[test]
    fn seeds_share_people_out_by_chance() {
        let found = (0..1_000).filter(|experiment| {
            let seed = format!("experiment-{experiment}");
            let first = (0..2_000).filter(|user| bucket(&seed, &format!("user-{user}")) < BUCKETS / 2).count() as u64;
            sample_ratio_mismatch(&[(first, 0.5), (2_000 - first, 0.5)]) < 0.05
        });
        let found = found.count();
        assert!((35..=65).contains(&found), "{found} of 1000 at a level of 0.05");
    }

    /// Its `inNamespace`: these users are in the part from 0 to 0.4 of the first, and of the second namespace, or are not.
    #[test]
    fn namespaces_are_those_of_growthbook() {
        for (unit, first, second) in
            [("1", false, false), ("2", false, false), ("3", false, true), ("4", false, true), ("5", true, true)]
        {
            assert_eq!(
                (place_in("namespace1", unit) < 0.4, place_in("namespace2", unit) < 0.4),
                (first, second),
                "{unit}"
            );
        }
    }
}
