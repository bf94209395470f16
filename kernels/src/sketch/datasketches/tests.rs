use datasketches::hash::value::{canonical_float, raw_bytes};
use datasketches::hll::{HllSketch, HllType, HllUnion};

use super::{HllImage, ImageError, MAX_COUPONS, hll_coupon, hll_coupons_to_datasketches, hll_from_datasketches, hll_to_datasketches};
use crate::Backend;
use crate::sketch::hash::{Hash, hash_bytes};
use crate::sketch::hll::{hll_estimate, hll_merge, hll_standard_error};

const TYPES: [HllType; 3] = [HllType::Hll4, HllType::Hll6, HllType::Hll8];

fn ours(lg_k: u32, values: std::ops::Range<i64>) -> Vec<u8> {
    let values: Vec<i64> = values.collect();
    let (mut hashes, mut registers) = (vec![0; values.len()], vec![0; 1 << lg_k]);
    Backend::active().hash_i64(&values, Hash::DataSketches, &mut hashes);
    Backend::active().hll_fold(&mut registers, &hashes, None);
    registers
}

fn theirs(lg_k: u32, values: std::ops::Range<i64>, kind: HllType) -> HllSketch {
    let mut sketch = HllSketch::new(lg_k as u8, kind).unwrap();
    values.for_each(|value| sketch.update(value));
    sketch
}

#[test]
fn their_images_of_every_size_and_type_hold_our_registers() {
    for (lg_k, sizes) in
        [(4, &[0, 1, 5, 8, 100, 100_000][..]), (12, &[0, 1, 7, 8, 9, 20, 100, 380, 400, 5000, 100_000]), (14, &[3, 500, 200_000])]
    {
        for &size in sizes {
            for kind in TYPES {
                let image = theirs(lg_k, 0..size, kind).serialize();
                let mut registers = vec![0; 1 << lg_k];
                hll_from_datasketches(&image, &mut registers).unwrap();
                assert!(registers == ours(lg_k, 0..size), "lg_k {lg_k}, {size} values, {kind:?}");
            }
        }
    }
}

#[test]
fn a_finer_image_folds_to_what_a_coarser_sketch_would_be() {
    for size in [5, 100, 50_000] {
        for kind in TYPES {
            let mut registers = vec![0; 1 << 8];
            hll_from_datasketches(&theirs(12, 0..size, kind).serialize(), &mut registers).unwrap();
            assert!(registers == ours(8, 0..size), "{size} values, {kind:?}");
        }
    }
    let image = theirs(8, 0..5, HllType::Hll8).serialize();
    assert_eq!(hll_from_datasketches(&image, &mut [0; 1 << 9]), Err(ImageError::Coarser { lg_k: 8 }));
}

#[test]
fn they_read_our_image_and_union_it_with_their_own() {
    for (lg_k, size) in [(4, 0), (4, 50), (12, 0), (12, 1), (12, 300), (12, 100_000), (16, 1_000_000)] {
        let registers = ours(lg_k, 0..size);
        let mut image = Vec::new();
        hll_to_datasketches(&registers, &mut image);
        let sketch = HllSketch::deserialize(&image).unwrap();
        assert_eq!(sketch.is_empty(), size == 0);
        let (estimate, bound) = (hll_estimate(&registers), 2.0 * hll_standard_error(lg_k) * size as f64);
        assert!((sketch.estimate() - estimate).abs() <= bound, "{size}: {} and {estimate}", sketch.estimate());
        assert_eq!(sketch.serialize(), image, "lg_k {lg_k}, {size} values");

        // Half of their values are new: a union holds what a merge does.
        let others = size / 2..size / 2 + size;
        let mut union = HllUnion::new(lg_k as u8).unwrap();
        union.update(&sketch);
        union.update(&theirs(lg_k, others.clone(), HllType::Hll8));
        let mut united = vec![0; 1 << lg_k];
        hll_from_datasketches(&union.to_sketch(HllType::Hll8).serialize(), &mut united).unwrap();
        let mut merged = registers;
        hll_merge(&mut merged, &ours(lg_k, others));
        assert!(united == merged, "lg_k {lg_k}, {size} values");
    }
}

/// The words of values, one for each coupon.
fn coupons(values: std::ops::Range<i64>) -> Vec<u64> {
    let values: Vec<i64> = values.collect();
    let mut words = vec![0; values.len()];
    Backend::active().hash_i64(&values, Hash::DataSketches, &mut words);
    words.iter_mut().for_each(|word| *word = hll_coupon(*word));
    words.sort_unstable();
    words.dedup();
    words
}

#[test]
fn coupons_are_theirs_and_raise_the_same_registers() {
    for size in 0..=MAX_COUPONS as i64 {
        let mut image = Vec::new();
        hll_coupons_to_datasketches(12, &coupons(0..size), &mut image);
        assert_eq!(image.len(), if size <= 8 { 8 } else { 12 } + 4 * size as usize);
        let their_image = theirs(12, 0..size, HllType::Hll8).serialize();
        for image in [&image, &their_image] {
            let image = HllImage::new(image).unwrap();
            let mut listed: Vec<u64> = image.coupons().unwrap().collect();
            listed.sort_unstable();
            assert_eq!(listed, coupons(0..size), "{size} values");
            assert_eq!((image.estimate(), image.is_empty()), (size as f64, size == 0));
            let mut registers = vec![0; 1 << 12];
            image.merge_into(&mut registers).unwrap();
            assert!(registers == ours(12, 0..size), "{size} values");
        }
        // Theirs of the same values adds nothing, and of others what is new.
        let sketch = HllSketch::deserialize(&image).unwrap();
        for (others, together) in [(0..size, size), (size / 2..size / 2 + size, size / 2 + size)] {
            let mut union = HllUnion::new(12).unwrap();
            union.update(&sketch);
            union.update(&theirs(12, others, HllType::Hll8));
            let estimate = union.to_sketch(HllType::Hll8).estimate();
            assert!((estimate - together as f64).abs() <= 0.01 * together as f64, "{estimate} of {together}");
        }
    }
}

#[test]
fn an_image_estimates_as_its_registers() {
    for size in [65, 300, 5_000] {
        for kind in TYPES {
            let image = theirs(12, 0..size, kind).serialize();
            assert_eq!(HllImage::new(&image).unwrap().estimate(), hll_estimate(&ours(12, 0..size)), "{size} values, {kind:?}");
        }
    }
}

#[test]
fn floats_and_strings_hash_as_theirs() {
    let floats = [0.0, -0.0, 1.5, f64::NAN, -f64::NAN, f64::INFINITY, 5e-324, -7.0];
    let words =
        ["a", "b", "seven77", "eight888", "nine99999", "sixteen_bytes___", "seventeen_bytes__", "a string of more than two blocks of 16"];
    let (mut hashes, mut registers, mut read) = ([0; 8], vec![0; 1 << 12], vec![0; 1 << 12]);
    let mut sketch = HllSketch::new(12, HllType::Hll8).unwrap();
    Backend::active().hash_f64(&floats, Hash::DataSketches, &mut hashes);
    Backend::active().hll_fold(&mut registers, &hashes, None);
    floats.iter().for_each(|&float| sketch.update(canonical_float::from_f64(float)));
    let mut offsets = vec![0];
    words.iter().for_each(|word| offsets.push(offsets[offsets.len() - 1] + word.len() as i32));
    hash_bytes(&offsets, words.concat().as_bytes(), Hash::DataSketches, &mut hashes);
    Backend::active().hll_fold(&mut registers, &hashes, None);
    words.iter().for_each(|word| sketch.update(raw_bytes::from_str(word)));
    hll_from_datasketches(&sketch.serialize(), &mut read).unwrap();
    assert!(read == registers);
    assert!(registers.iter().filter(|&&value| value > 0).count() >= 13);
}

/// Updatable images are theirs of Java and C++ alone: made by hand from compact ones.
#[test]
fn updatable_images_keep_free_places() {
    let compact = theirs(12, 0..5, HllType::Hll8).serialize();
    let mut updatable = compact.clone();
    updatable[5] &= !super::COMPACT;
    updatable.splice(8..8, [0; 4]);
    updatable.extend([0; 8]);
    let (mut registers, mut expected) = (vec![0; 1 << 12], vec![0; 1 << 12]);
    hll_from_datasketches(&updatable, &mut registers).unwrap();
    hll_from_datasketches(&compact, &mut expected).unwrap();
    assert!(registers == expected && registers.iter().any(|&value| value > 0));
}

#[test]
fn no_bytes_whatever_panic() {
    for kind in TYPES {
        for size in [0, 5, 100, 50_000] {
            let image = theirs(12, 0..size, kind).serialize();
            for cut in 0..image.len().min(100) {
                let result = hll_from_datasketches(&image[..cut], &mut [0; 1 << 12]);
                assert!(matches!(result, Err(ImageError::Short { .. })), "{kind:?}, {size} values, cut at {cut}");
            }
            for at in 0..8 {
                for byte in 0..=255 {
                    let mut image = image.clone();
                    image[at] = byte;
                    let _ = hll_from_datasketches(&image, &mut [0; 16]);
                    let _ = HllImage::new(&image).map(|image| image.is_empty());
                }
            }
        }
    }
    assert_eq!(hll_from_datasketches(&[2, 1, 3, 12, 3, 4, 0, 8], &mut [0; 16]), Err(ImageError::Foreign));
}

proptest::proptest! {
    #[test]
    fn random_bytes_do_not_panic(mut image in proptest::collection::vec(proptest::num::u8::ANY, 0..200), mode in 0..16u8) {
        if image.len() >= 8 {
            (image[0], image[1], image[2], image[3], image[7]) = ([2, 3, 10, 10][mode as usize & 3], 1, 7, 4 + image[3] % 18, mode);
        }
        let _ = hll_from_datasketches(&image, &mut [0; 16]);
    }
}
