//! Arithmetic in GF(256) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 (RFC 8681 section 3.7.2): addition is exclusive or.

const POLYNOMIAL: u16 = 0x11d;

struct Tables {
    /// Powers of the generator 2, twice over, so that sums of two logarithms need no modulo.
    power: [u8; 512],
    /// Logarithms; that of 0 is unused.
    log: [u8; 256],
}

const TABLES: Tables = {
    let mut tables = Tables { power: [0; 512], log: [0; 256] };
    let mut value = 1u16;
    let mut exponent = 0;
    while exponent < 255 {
        tables.power[exponent] = value as u8;
        tables.power[exponent + 255] = value as u8;
        tables.log[value as usize] = exponent as u8;
        value <<= 1;
        if value > 255 {
            value ^= POLYNOMIAL;
        }
        exponent += 1;
    }
    tables
};

/// The product.
pub(crate) const fn multiply(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    TABLES.power[TABLES.log[a as usize] as usize + TABLES.log[b as usize] as usize]
}

/// What times `a` is 1; 0 for 0, which has none.
pub(crate) const fn inverse(a: u8) -> u8 {
    if a == 0 { 0 } else { TABLES.power[255 - TABLES.log[a as usize] as usize] }
}

/// All products of `factor`: the one of `low` is in `[low]`.
fn products(factor: u8) -> [u8; 256] {
    let mut row = [0; 256];
    let mut bit = 0;
    while bit < 8 {
        let size = 1 << bit;
        let product = multiply(factor, size as u8);
        for i in 0..size {
            row[size + i] = row[i] ^ product;
        }
        bit += 1;
    }
    row
}

/// Adds `factor` times `source` to the beginning of `target`, which must not be shorter.
pub(crate) fn add_scaled(target: &mut [u8], source: &[u8], factor: u8) {
    match factor {
        0 => {}
        1 => target.iter_mut().zip(source).for_each(|(t, s)| *t ^= s),
        _ => {
            let row = products(factor);
            target.iter_mut().zip(source).for_each(|(t, s)| *t ^= row[usize::from(*s)]);
        }
    }
}

/// Multiplies everything by `factor`.
pub(crate) fn scale(target: &mut [u8], factor: u8) {
    if factor != 1 {
        let row = products(factor);
        for byte in target {
            *byte = row[usize::from(*byte)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_field() {
        // By the definition: carry-less product, reduced.
        let slow = |a: u8, b: u8| {
            let mut product = (0..8).filter(|i| b >> i & 1 == 1).fold(0u16, |sum, i| sum ^ u16::from(a) << i);
            for bit in (8..16).rev() {
                if product >> bit & 1 == 1 {
                    product ^= POLYNOMIAL << (bit - 8);
                }
            }
            product as u8
        };
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                assert_eq!(multiply(a, b), slow(a, b), "{a} * {b}");
            }
            assert_eq!(multiply(a, inverse(a)), u8::from(a != 0));
            assert_eq!(products(a)[77], multiply(a, 77));
        }
    }

    #[test]
    fn rows_are_added_and_scaled() {
        let source: Vec<u8> = (0..=255).collect();
        for factor in [0, 1, 2, 0x8e, 255] {
            let mut target = vec![0x5a; 300];
            add_scaled(&mut target, &source, factor);
            assert!((0..256).all(|i| target[i] == 0x5a ^ multiply(source[i], factor)));
            assert!(target[256..].iter().all(|byte| *byte == 0x5a));
            if factor != 0 {
                let mut back = source.clone();
                scale(&mut back, factor);
                scale(&mut back, inverse(factor));
                assert_eq!(back, source);
            }
        }
    }
}
