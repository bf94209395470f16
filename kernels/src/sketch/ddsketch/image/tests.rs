use super::{DdImage, DdImageError, MAX_COUNT, ddsketch_to_image, put_double, put_message, put_number, zigzag};
use crate::sketch::ddsketch::{DdHead, DdLayout, ddsketch_fold};
use crate::testing::{same, scramble};

type Group = (DdHead, Vec<u64>);

fn group(layout: &DdLayout, values: &[f64]) -> Group {
    let (mut head, mut counts) = (DdHead::EMPTY, vec![0; layout.counts_per_group()]);
    ddsketch_fold(layout, &mut head, &mut counts, values, None);
    (head, counts)
}

fn image(layout: &DdLayout, (head, counts): &Group) -> Vec<u8> {
    let mut image = Vec::new();
    ddsketch_to_image(layout, head, counts, &mut image);
    image
}

/// Numbers of both signs over some factor of magnitude, and the others.
fn values(rows: u64, magnitudes: u64) -> Vec<f64> {
    let others = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, -5e-324];
    let value = |row: u64| match scramble(row) % 40 {
        at @ 0..8 => others[at as usize],
        at => (if at % 3 == 0 { -1.0 } else { 1.0 }) * 1.5f64.powi((scramble(row + 7) % magnitudes) as i32),
    };
    (0..rows).map(value).collect()
}

fn layouts() -> [DdLayout; 4] {
    [DdLayout::new(0.01, 1_024), DdLayout::new(0.02, 16), DdLayout::new(0.3, 64), DdLayout::new(0.001, 2_048)]
}

/// Images of parts, merged in any order, are the image of the whole, collapsed or not; and a group comes back as it was.
#[test]
fn images_merge_to_that_of_the_whole() {
    for (layout, rows) in layouts().into_iter().flat_map(|layout| [0, 1, 5, 100, 3_000].map(|rows| (layout, rows))) {
        for magnitudes in [3, 30, 800] {
            let values = values(rows, magnitudes);
            let whole = group(&layout, &values);
            let parts: Vec<Vec<u8>> = values.chunks(rows as usize / 5 + 1).map(|part| image(&layout, &group(&layout, part))).collect();
            let merged = |parts: &mut dyn Iterator<Item = &Vec<u8>>| {
                let mut merged = group(&layout, &[]);
                parts.for_each(|part| DdImage::new(part).unwrap().merge_into(&layout, &mut merged.0, &mut merged.1));
                merged
            };
            assert!(merged(&mut parts.iter()) == whole, "{layout:?}, {rows} rows, {magnitudes}");
            assert!(merged(&mut parts.iter().rev()) == whole, "{layout:?}, {rows} rows, {magnitudes}");
            assert!(merged(&mut std::iter::once(&image(&layout, &whole))) == whole, "{layout:?}, {rows} rows, {magnitudes}");
        }
    }
}

#[test]
fn an_image_answers_as_its_group() {
    for layout in layouts() {
        let (head, counts) = group(&layout, &values(2_000, 50));
        let read = DdImage::new(&image(&layout, &(head, counts.clone()))).unwrap();
        assert_eq!((read.alpha(), read.count()), (layout.alpha(), 2_000));
        for q in (0..=100).map(|q| f64::from(q) / 100.0) {
            let (got, want) = (read.quantile(q).unwrap(), layout.quantile(&head, &counts, q).unwrap());
            assert!(same(got, want), "{layout:?}, {q}: {got} is not {want}");
        }
    }
    let layout = DdLayout::new(0.01, 1_024);
    assert_eq!(DdImage::new(&image(&layout, &group(&layout, &[]))).unwrap().quantile(0.5), None);
}

/// The values that stand for a small sketch make it again.
#[test]
fn few_values_are_of_the_same_buckets() {
    for layout in layouts() {
        for rows in [0, 1, 3, 20, 64] {
            let whole = group(&layout, &values(rows, 7));
            let (read, mut few) = (DdImage::new(&image(&layout, &whole)).unwrap(), vec![7.0]);
            if read.few(&layout, 64, &mut few) {
                assert_eq!(few.len() as u64, rows + 1);
                assert!(group(&layout, &few[1..]) == whole, "{layout:?}, {rows} rows");
            } else {
                assert!(whole.0.collapsed() || few == [7.0]);
            }
            assert!(rows == 0 || !read.few(&layout, rows as usize - 1, &mut few));
        }
    }
    let layout = DdLayout::new(0.01, 1_024);
    let plain: Vec<f64> = (0..250).map(|row| f64::from(row) * 0.37 - 20.0).collect();
    let mut few = Vec::new();
    assert!(DdImage::new(&image(&layout, &group(&layout, &plain))).unwrap().few(&layout, 256, &mut few));
}

/// Bytes that are kept for good: sketches are stored. sketches-go 1.4.8 reads them as −2.0007, 0.0 and twice 1.0003.
#[test]
fn the_layout_stays_as_it_is() {
    let layout = DdLayout::new(0.01, 1_024);
    let image = image(&layout, &group(&layout, &[1.0, -2.0, 0.0, 1.0, f64::NAN, f64::INFINITY]));
    let hex: String = image.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}

const GOLDEN: &str = "0a14092fa67be4ed51f03f11000000000000e03f1803\
    120a12080000000000000040\
    1a0c1208000000000000f03f1846\
    21000000000000f03f\
    c23e0f0801117b14ae47e17a843f18012801";

#[test]
fn bytes_of_something_else_are_refused() {
    let layout = DdLayout::new(0.01, 1_024);
    let whole = image(&layout, &group(&layout, &values(500, 20)));
    for cut in 0..whole.len() {
        assert!(DdImage::new(&whole[..cut]).is_err(), "cut at {cut}");
    }
    let refused = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        write(&mut bytes);
        DdImage::new(&bytes).unwrap_err()
    };
    let store = |bucket: i32, count: f64| {
        move |bytes: &mut Vec<u8>| {
            put_message(2, bytes, |store| {
                put_message(1, store, |entry| {
                    put_number(1, zigzag(bucket), entry);
                    put_double(2, count, entry);
                });
            });
        }
    };
    assert_eq!(refused(&store(3, 0.5)), DdImageError::Count);
    assert_eq!(refused(&store(3, -1.0)), DdImageError::Count);
    assert_eq!(refused(&store(3, f64::NAN)), DdImageError::Count);
    assert_eq!(refused(&store(3, 2.0 * MAX_COUNT as f64)), DdImageError::Count);
    assert_eq!(refused(&store(i32::MAX, 1.0)), DdImageError::Bucket(i32::MAX.into()));
    assert_eq!(refused(&|bytes| put_message(1, bytes, |mapping| put_number(3, 1, mapping))), DdImageError::Foreign);
    assert_eq!(refused(&|bytes| put_message(1, bytes, |mapping| put_double(1, 1.02, mapping))), DdImageError::Foreign);
    assert_eq!(refused(&|bytes| put_message(1_000, bytes, |extension| put_number(1, 2, extension))), DdImageError::Version(2));
    assert_eq!(refused(&|bytes| bytes.push(7)), DdImageError::Malformed);
    // Fields of others are passed over.
    let mut more = whole.clone();
    put_number(77, 5, &mut more);
    put_message(78, &mut more, |message| message.push(9));
    assert!(DdImage::new(&more).is_ok());
}
