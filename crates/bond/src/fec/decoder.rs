//! Solving for missing packets: repair packets are linear equations, kept in reduced row echelon form.
//!
//! What is known of an equation is taken out when it comes in, and whenever a packet arrives later. An equation with one
//! unknown left is a recovered packet. The oldest unknown of an equation is its pivot and occurs in no other equation, so
//! that each packet given up costs one equation at most.

use bytes::Bytes;

use super::encoder::Source;
use super::field::{add_scaled, inverse, multiply, scale};
use super::wire::SYMBOL_HEAD_BYTES;

/// Equations kept for one flow; the oldest makes room.
pub(crate) const EQUATIONS_MAX: usize = 64;
/// Unknowns in one equation; one with more is dropped.
pub(crate) const UNKNOWNS_MAX: usize = 256;

/// An unknown packet's number and its factor, not 0.
type Term = (u64, u8);

/// A packet that was never received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recovered {
    pub number: u64,
    pub rtp_time: u32,
    pub bytes: Bytes,
}

#[derive(Debug, Clone)]
struct Equation {
    /// Ascending by number; the first is the pivot, its factor 1.
    terms: Vec<Term>,
    symbol: Vec<u8>,
}

impl Equation {
    fn pivot(&self) -> Option<u64> {
        self.terms.first().map(|term| term.0)
    }

    fn factor_of(&self, number: u64) -> u8 {
        self.terms.binary_search_by_key(&number, |term| term.0).map_or(0, |index| self.terms[index].1)
    }

    /// Adds `factor` times `other`.
    fn add(&mut self, other: &Self, factor: u8) {
        let mut sum: Vec<Term> = Vec::with_capacity(self.terms.len() + other.terms.len());
        let (mut ours, mut theirs) = (self.terms.iter().peekable(), other.terms.iter().peekable());
        loop {
            let term = match (ours.peek(), theirs.peek()) {
                (Some(our), Some(their)) if our.0 == their.0 => {
                    let term = (our.0, our.1 ^ multiply(their.1, factor));
                    ours.next();
                    theirs.next();
                    term
                }
                (Some(our), Some(their)) if our.0 < their.0 => {
                    let term = **our;
                    ours.next();
                    term
                }
                (_, Some(their)) => {
                    let term = (their.0, multiply(their.1, factor));
                    theirs.next();
                    term
                }
                (Some(our), None) => {
                    let term = **our;
                    ours.next();
                    term
                }
                (None, None) => break,
            };
            if term.1 != 0 {
                sum.push(term);
            }
        }
        self.terms = sum;
        if self.symbol.len() < other.symbol.len() {
            self.symbol.resize(other.symbol.len(), 0);
        }
        add_scaled(&mut self.symbol, &other.symbol, factor);
    }

    /// Makes the factor of the pivot 1.
    fn normalize(&mut self) {
        let by = inverse(self.terms.first().map_or(1, |term| term.1));
        self.terms.iter_mut().for_each(|term| term.1 = multiply(term.1, by));
        scale(&mut self.symbol, by);
    }

    /// The packet, when only one is unknown and it makes sense.
    fn solution(&self) -> Option<Recovered> {
        let (head, rest) = self.symbol.split_at_checked(SYMBOL_HEAD_BYTES)?;
        let length = usize::from(u16::from_be_bytes([head[0], head[1]]));
        let (bytes, padding) = rest.split_at_checked(length)?;
        if bytes.is_empty() || padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        let rtp_time = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
        Some(Recovered { number: self.pivot()?, rtp_time, bytes: Bytes::copy_from_slice(bytes) })
    }
}

/// The equations of one flow.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// In the order of their coming; at most [`EQUATIONS_MAX`].
    equations: Vec<Equation>,
}

impl Decoder {
    pub(crate) fn is_empty(&self) -> bool {
        self.equations.is_empty()
    }

    /// Takes a repair symbol from which what is known has been taken out already: `terms` are the unknowns in ascending
    /// order. False when it tells nothing new.
    pub(crate) fn push(&mut self, terms: Vec<(u64, u8)>, symbol: Vec<u8>) -> bool {
        let mut fresh = Equation { terms, symbol };
        for equation in &self.equations {
            if let Some(pivot) = equation.pivot() {
                let factor = fresh.factor_of(pivot);
                if factor != 0 {
                    fresh.add(equation, factor);
                }
            }
        }
        if fresh.terms.is_empty() || fresh.terms.len() > UNKNOWNS_MAX {
            return false;
        }
        self.insert(fresh);
        true
    }

    /// Adds an equation without any pivot of the others.
    fn insert(&mut self, mut fresh: Equation) {
        fresh.normalize();
        let Some(pivot) = fresh.pivot() else { return };
        for equation in &mut self.equations {
            let factor = equation.factor_of(pivot);
            if factor != 0 {
                equation.add(&fresh, factor);
            }
        }
        self.equations.retain(|equation| equation.terms.len() <= UNKNOWNS_MAX);
        if self.equations.len() >= EQUATIONS_MAX {
            self.equations.remove(0);
        }
        self.equations.push(fresh);
    }

    /// A packet arrived: nothing to solve for any more.
    pub(crate) fn learn(&mut self, source: Source<'_>) {
        let mut pivotless = None;
        for index in (0..self.equations.len()).rev() {
            let factor = self.equations[index].factor_of(source.number);
            if factor == 0 {
                continue;
            }
            let was_pivot = self.equations[index].pivot() == Some(source.number);
            let equation = &mut self.equations[index];
            equation.terms.retain(|term| term.0 != source.number);
            source.add_to(&mut equation.symbol, factor);
            if was_pivot {
                pivotless = Some(self.equations.remove(index));
            }
        }
        if let Some(Equation { terms, symbol }) = pivotless {
            self.push(terms, symbol);
        }
    }

    /// Packets below `number` are delivered or given up.
    pub(crate) fn forget_below(&mut self, number: u64) {
        self.equations.retain(|equation| equation.pivot().is_some_and(|pivot| pivot >= number));
    }

    /// A packet that can be told from what is known; call until there is none.
    pub(crate) fn poll(&mut self) -> Option<Recovered> {
        while let Some(index) = self.equations.iter().position(|equation| equation.terms.len() == 1) {
            if let Some(recovered) = self.equations.remove(index).solution() {
                return Some(recovered);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoder::encode;
    use super::super::wire::{COVERED_MAX, factor};
    use super::*;
    use proptest::prelude::*;

    /// A packet whose length and content follow from its number.
    fn packet(number: u64) -> Vec<u8> {
        (0..40 + number * 37 % 60).map(|i| (number * 31 + i * 7) as u8).collect()
    }

    fn source(number: u64, bytes: &[u8]) -> Source<'_> {
        Source { number, rtp_time: 0xffff_ff00u32.wrapping_add(number as u32 * 90), bytes }
    }

    fn repair(key: u16, numbers: &[u64]) -> Vec<u8> {
        let packets: Vec<_> = numbers.iter().map(|number| packet(*number)).collect();
        let mut symbol = vec![0xaa];
        encode(key, numbers.iter().zip(&packets).map(|(n, bytes)| source(*n, bytes)), &mut symbol);
        assert_eq!(symbol.remove(0), 0xaa, "what stood there before stays");
        symbol
    }

    /// Hands the decoder a repair packet of which all but `missing` is known.
    fn push(decoder: &mut Decoder, key: u16, numbers: &[u64], missing: &[u64]) -> bool {
        let mut symbol = repair(key, numbers);
        let (unknown, known): (Vec<u64>, Vec<u64>) = numbers.iter().partition(|number| missing.contains(number));
        for number in known {
            source(number, &packet(number)).add_to(&mut symbol, factor(key, number));
        }
        decoder.push(unknown.iter().map(|number| (*number, factor(key, *number))).collect(), symbol)
    }

    fn drain(decoder: &mut Decoder) -> Vec<u64> {
        std::iter::from_fn(|| decoder.poll())
            .map(|recovered| {
                let bytes = packet(recovered.number);
                assert_eq!(recovered.bytes, bytes, "packet {}", recovered.number);
                assert_eq!(recovered.rtp_time, source(recovered.number, &bytes).rtp_time);
                recovered.number
            })
            .collect()
    }

    #[test]
    fn one_repair_packet_mends_any_one_of_those_it_covers() {
        let numbers: Vec<u64> = (100..164).collect();
        for lost in [100, 131, 163] {
            let mut decoder = Decoder::default();
            assert!(push(&mut decoder, 5, &numbers, &[lost]));
            assert_eq!(drain(&mut decoder), [lost]);
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn as_many_repair_packets_as_losses_mend_them_from_overlapping_windows() {
        let missing = [105, 111, 117, 140, 141, 142];
        let mut decoder = Decoder::default();
        for (i, key) in (40..46u16).enumerate() {
            assert_eq!(drain(&mut decoder), [0; 0]);
            let first = 100 + i as u64;
            let numbers: Vec<u64> = (first..first + 64).collect();
            assert!(push(&mut decoder, key, &numbers, &missing));
        }
        let mut got = drain(&mut decoder);
        got.sort_unstable();
        assert_eq!(got, missing);
        assert!(!push(&mut decoder, 99, &[1, 2, 3], &[]), "nothing is missing there");
    }

    #[test]
    fn a_late_packet_helps_to_solve_for_the_others() {
        let numbers: Vec<u64> = (0..10).collect();
        let mut decoder = Decoder::default();
        push(&mut decoder, 1, &numbers, &[2, 5, 7]);
        push(&mut decoder, 2, &numbers, &[2, 5, 7]);
        assert_eq!(drain(&mut decoder), [0; 0]);
        // The pivot of the first equation, then all is known.
        decoder.learn(source(2, &packet(2)));
        let mut got = drain(&mut decoder);
        got.sort_unstable();
        assert_eq!(got, [5, 7]);
    }

    #[test]
    fn packets_given_up_cost_one_equation_each_and_memory_is_bounded() {
        let numbers: Vec<u64> = (0..64).collect();
        let missing: Vec<u64> = (0..64).collect();
        let mut decoder = Decoder::default();
        for key in 0..300 {
            push(&mut decoder, key, &numbers, &missing[..60]);
            decoder.equations.iter().for_each(|e| assert!(e.terms.len() <= UNKNOWNS_MAX));
            assert!(decoder.equations.len() <= EQUATIONS_MAX);
        }
        let mut decoder = Decoder::default();
        for key in 0..4 {
            push(&mut decoder, key, &numbers, &[3, 4, 30, 40]);
            if key == 2 {
                decoder.forget_below(4);
                assert_eq!(decoder.equations.len(), 2);
            }
        }
        // Packet 3 is gone: what covers it tells nothing of the rest, but for the equation in which it is eliminated.
        decoder.forget_below(4);
        assert!(drain(&mut decoder).iter().all(|number| [4, 30, 40].contains(number)));
    }

    #[test]
    fn what_comes_out_implausible_is_not_delivered() {
        let mut decoder = Decoder::default();
        // A length beyond the symbol, no content, padding that is not zero.
        for symbol in [vec![9, 9, 0, 0, 0, 0, 1], vec![0, 0, 0, 0, 0, 0, 0], vec![0, 1, 0, 0, 0, 0, 7, 7], vec![0; 3]] {
            assert!(decoder.push(vec![(8, 1)], symbol));
            assert_eq!(decoder.poll(), None);
            assert!(decoder.is_empty());
        }
    }

    proptest! {
        /// Any losses, any covers: what comes out is what went in, and as many repair packets as unknowns nearly always do.
        #[test]
        fn whatever_comes_out_is_right(
            lost in proptest::collection::btree_set(0u64..80, 1..12),
            covers in proptest::collection::vec((proptest::collection::btree_set(0u64..100, 1..=COVERED_MAX), any::<u16>()), 1..40),
            late in proptest::collection::vec(0u64..80, 0..6),
        ) {
            let lost: Vec<u64> = lost.into_iter().collect();
            let mut unknown = lost.clone();
            let mut decoder = Decoder::default();
            for (i, (covered, key)) in covers.iter().enumerate() {
                let numbers: Vec<u64> = covered.iter().copied().collect();
                push(&mut decoder, *key, &numbers, &unknown.iter().copied().chain(80..200).collect::<Vec<_>>());
                if let Some(number) = late.get(i) {
                    decoder.learn(source(*number, &packet(*number)));
                    unknown.retain(|n| n != number);
                }
                let got = drain(&mut decoder);
                prop_assert!(got.iter().all(|number| unknown.contains(number) || *number >= 80));
                unknown.retain(|number| !got.contains(number));
            }
        }

        /// Equations that contradict each other: no panic, no growth.
        #[test]
        fn hostile_equations_are_harmless(
            equations in proptest::collection::vec(
                (proptest::collection::btree_map(0u64..100, 1u8.., 0..64), proptest::collection::vec(any::<u8>(), 0..40)),
                0..100,
            ),
            known in proptest::collection::vec((0u64..100, 0usize..60), 0..50),
        ) {
            let mut decoder = Decoder::default();
            for (i, (terms, symbol)) in equations.into_iter().enumerate() {
                decoder.push(terms.into_iter().collect(), symbol);
                if let Some((number, length)) = known.get(i) {
                    decoder.learn(Source { number: *number, rtp_time: 1, bytes: &vec![3; *length] });
                }
                if i % 7 == 6 {
                    decoder.forget_below(i as u64);
                }
                if i % 3 == 2 {
                    while decoder.poll().is_some() {}
                }
                prop_assert!(decoder.equations.len() <= EQUATIONS_MAX);
                for equation in &decoder.equations {
                    prop_assert!(equation.terms.first().is_some_and(|term| term.1 == 1));
                    prop_assert!(equation.terms.is_sorted_by(|a, b| a.0 < b.0));
                    let pivot = equation.pivot().unwrap();
                    let holders = decoder.equations.iter().filter(|other| other.factor_of(pivot) != 0).count();
                    prop_assert_eq!(holders, 1);
                }
            }
        }
    }
}
