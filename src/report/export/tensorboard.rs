//! TensorBoard's event files: curves of runs as scalars.
//!
//! A file is a sequence of TFRecords (length, masked CRC-32C of the length, data, masked CRC-32C of the data; see
//! tensorflow/core/lib/io/record_writer.h), and each record a protobuf message `Event`
//! (tensorflow/core/util/event.proto), of which four fields are needed and written by hand here.

use super::{ExportError, Written, io_error};
use crate::report::files::{self, folder_name};
use crate::store::rows::RunRow;
use crate::store::{Cell, Store};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A point of a curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    pub tag: String,
    pub step: i64,
    /// Unix time.
    pub time: f64,
    pub value: f32,
}

/// Writes the curves of `run` below `out`, one log directory per run (and per stage where there are several), and
/// returns what was written; nothing for a run that has no curve yet.
pub async fn run(
    store: &Store,
    run: &RunRow,
    out: &Path,
    taken: &mut HashMap<String, u32>,
) -> Result<Vec<Written>, ExportError> {
    let mut stages: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    store
        .extract_curves(&run.id)
        .await?
        .for_each(|row| {
            if let Some((stage, point)) = Point::of(row) {
                stages.entry(stage).or_default().push(point);
            }
            Ok::<(), ExportError>(())
        })
        .await?;
    let several = run.stages.len() > 1;
    let mut path = out.join(folder_name(&run.experiment));
    path.push(folder_name(&run.variant));
    path.push(format!("s{}", run.seed));
    // Two variants may become alike as folders.
    let times = taken.entry(path.display().to_string()).or_default();
    *times += 1;
    if *times > 1 {
        path.set_file_name(format!("s{}-{times}", run.seed));
    }
    let mut written = Vec::new();
    for (stage, points) in stages {
        let folder = if several {
            path.join(folder_name(&stage))
        } else {
            path.clone()
        };
        let scalars = scalars(points);
        let Some(first) = scalars.iter().map(|scalar| scalar.time).reduce(f64::min) else {
            continue;
        };
        std::fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        // The name that TensorBoard looks for. The time in it is the run's, so that a second export writes the
        // same file.
        let file = folder.join(format!("events.out.tfevents.{:010}.ablate", first as i64));
        files::replace(&file, &encode(first, &scalars)).map_err(io_error(&file))?;
        written.push(Written {
            path: file,
            rows: scalars.len() as u64,
        });
    }
    Ok(written)
}

struct Point {
    metric: String,
    resolution: Option<i64>,
    step: i64,
    time: f64,
    value: f32,
}

impl Point {
    /// Stage and point of a row of [`Store::extract_curves`].
    fn of(row: Vec<Cell>) -> Option<(String, Point)> {
        let mut cells = row.into_iter();
        let mut next = || cells.next().unwrap_or(Cell::Null);
        let Cell::Text(stage) = next() else {
            return None;
        };
        let Cell::Integer(step) = next() else {
            return None;
        };
        let Cell::Text(metric) = next() else {
            return None;
        };
        let resolution = match next() {
            Cell::Integer(resolution) => Some(resolution),
            _ => None,
        };
        // What wasn't finite is NULL in the views.
        let value = match next() {
            Cell::Real(value) => value as f32,
            Cell::Integer(value) => value as f32,
            _ => f32::NAN,
        };
        let time = match next() {
            Cell::Real(time) => time,
            Cell::Integer(time) => time as f64,
            _ => 0.0,
        };
        Some((
            stage,
            Point {
                metric,
                resolution,
                step,
                time,
                value,
            },
        ))
    }
}

/// Points as scalars, by step and tag. Where a metric has several test resolutions, the one with the most points, the
/// stage's own, keeps the plain tag.
fn scalars(points: Vec<Point>) -> Vec<Scalar> {
    let mut counts: BTreeMap<&str, BTreeMap<Option<i64>, usize>> = BTreeMap::new();
    for point in &points {
        let resolutions = counts.entry(&point.metric).or_default();
        *resolutions.entry(point.resolution).or_default() += 1;
    }
    let own: HashMap<String, Option<i64>> = counts
        .iter()
        .filter_map(|(metric, resolutions)| {
            // Of equally many, the smallest.
            let most = resolutions.iter().rev().max_by_key(|(_, count)| **count)?;
            Some(((*metric).to_owned(), *most.0))
        })
        .collect();
    let mut scalars: Vec<Scalar> = points
        .into_iter()
        .map(|point| {
            let is_own = own.get(&point.metric) == Some(&point.resolution);
            Scalar {
                tag: match point.resolution {
                    Some(resolution) if !is_own => format!("{}@{resolution}px", point.metric),
                    _ => point.metric,
                },
                step: point.step,
                time: point.time,
                value: point.value,
            }
        })
        .collect();
    scalars.sort_by(|a, b| (a.step, &a.tag).cmp(&(b.step, &b.tag)));
    scalars
}

/// An event file that begins at `time` and holds `scalars`.
pub fn encode(time: f64, scalars: &[Scalar]) -> Vec<u8> {
    let mut file = Vec::with_capacity(64 + 64 * scalars.len());
    let mut event = Vec::new();
    field_double(&mut event, 1, time);
    field_bytes(&mut event, 3, b"brain.Event:2");
    record(&mut file, &event);
    for scalar in scalars {
        let mut value = Vec::new();
        field_bytes(&mut value, 1, scalar.tag.as_bytes());
        field_float(&mut value, 2, scalar.value);
        let mut summary = Vec::new();
        field_bytes(&mut summary, 1, &value);
        event.clear();
        field_double(&mut event, 1, scalar.time);
        if scalar.step != 0 {
            varint(&mut event, 2 << 3);
            varint(&mut event, scalar.step as u64);
        }
        field_bytes(&mut event, 5, &summary);
        record(&mut file, &event);
    }
    file
}

/// A TFRecord.
fn record(out: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length).to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&masked_crc(data).to_le_bytes());
}

/// CRC-32C, rotated and shifted, since a CRC over data that holds CRCs is weak.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field_double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn field_float(out: &mut Vec<u8>, field: u64, value: f32) {
    varint(out, field << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}

fn field_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
