//! A table as a Parquet file. It is not compressed: most values repeat, and a dictionary holds each of them once.

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime};
use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;
use serde_json::Value;

use super::column::{CellKind, Column};

/// How many rows are written at once, and kept in memory until then.
const GROUP: usize = 1 << 14;

/// A file in the making.
pub(super) struct ParquetFile {
    file: SerializedFileWriter<Vec<u8>>,
    columns: Vec<Cells>,
    rows: usize,
}

/// The cells of a column that are not written yet.
struct Cells {
    kind: CellKind,
    values: Values,
    /// For each row 1 when it has a value, else 0.
    present: Vec<i16>,
}

enum Values {
    Whole(Vec<i64>),
    Real(Vec<f64>),
    Flag(Vec<bool>),
    Text(Vec<ByteArray>),
}

impl ParquetFile {
    pub(super) fn new(columns: &[Column]) -> Result<ParquetFile> {
        let fields: Result<Vec<_>> = columns.iter().map(|(name, kind)| Ok(Arc::new(field(name, *kind)?))).collect();
        let schema = Type::group_type_builder("table").with_fields(fields?).build()?;
        let properties = Arc::new(WriterProperties::builder().build());
        let file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties)?;
        Ok(ParquetFile { file, columns: columns.iter().map(|(_, kind)| Cells::new(*kind)).collect(), rows: 0 })
    }

    /// Takes a row: a value for each column.
    pub(super) fn row<const N: usize>(&mut self, row: [Value; N]) -> Result<()> {
        self.columns.iter_mut().zip(row).for_each(|(column, value)| column.take(value));
        self.rows += 1;
        if self.rows == GROUP { self.write() } else { Ok(()) }
    }

    /// The bytes of the file.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        if self.rows > 0 {
            self.write()?;
        }
        self.file.into_inner()
    }

    fn write(&mut self) -> Result<()> {
        let mut group = self.file.next_row_group()?;
        for cells in &mut self.columns {
            let column = group.next_column()?;
            cells.write(column.ok_or_else(|| ParquetError::General("a column is missing".into()))?)?;
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }
}

/// How the file declares a column. Every cell may be null.
fn field(name: &str, kind: CellKind) -> Result<Type> {
    let (physical, logical) = match kind {
        CellKind::Count => (Physical::INT64, None),
        CellKind::Number => (Physical::DOUBLE, None),
        CellKind::Flag => (Physical::BOOLEAN, None),
        CellKind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
        CellKind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
    };
    let field = Type::primitive_type_builder(name, physical);
    field.with_repetition(Repetition::OPTIONAL).with_logical_type(logical).build()
}

impl Cells {
    fn new(kind: CellKind) -> Cells {
        let values = match kind {
            CellKind::Count | CellKind::Time => Values::Whole(Vec::new()),
            CellKind::Number => Values::Real(Vec::new()),
            CellKind::Flag => Values::Flag(Vec::new()),
            CellKind::Text => Values::Text(Vec::new()),
        };
        Cells { kind, values, present: Vec::new() }
    }

    /// Adds a cell. A value of the wrong kind becomes null.
    fn take(&mut self, value: Value) {
        let whole = |value: &Value| match self.kind {
            CellKind::Time => value.as_str().and_then(milliseconds),
            _ => value.as_i64(),
        };
        let is_there = match &mut self.values {
            Values::Whole(values) => push(values, whole(&value)),
            Values::Real(values) => push(values, value.as_f64()),
            Values::Flag(values) => push(values, value.as_bool()),
            Values::Text(values) => {
                let text = if let Value::String(text) = value { Some(text) } else { None };
                push(values, text.map(|text| ByteArray::from(text.into_bytes())))
            }
        };
        self.present.push(i16::from(is_there));
    }

    fn write(&mut self, mut column: SerializedColumnWriter<'_>) -> Result<()> {
        let present = std::mem::take(&mut self.present);
        let present = Some(present.as_slice());
        match &mut self.values {
            Values::Whole(values) => column.typed::<Int64Type>().write_batch(&std::mem::take(values), present, None),
            Values::Real(values) => column.typed::<DoubleType>().write_batch(&std::mem::take(values), present, None),
            Values::Flag(values) => column.typed::<BoolType>().write_batch(&std::mem::take(values), present, None),
            Values::Text(values) => column.typed::<ByteArrayType>().write_batch(&std::mem::take(values), present, None),
        }?;
        column.close()
    }
}

fn push<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
    let is_there = value.is_some();
    values.extend(value);
    is_there
}

/// Milliseconds since 1970. A time without an offset, as in rows of an earlier workspace, is UTC.
fn milliseconds(text: &str) -> Option<i64> {
    let with_offset = DateTime::parse_from_rfc3339(text).map(|at| at.timestamp_millis());
    let without =
        || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|at| at.and_utc().timestamp_millis());
    with_offset.or_else(|_| without()).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::RowAccessor as _;
    use serde_json::json;

    use super::*;

    fn read(sink: ParquetFile) -> SerializedFileReader<std::fs::File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&sink.finish().unwrap()).unwrap();
        SerializedFileReader::new(file).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_with_its_types() {
        let columns = [
            ("n", CellKind::Count),
            ("x", CellKind::Number),
            ("is", CellKind::Flag),
            ("at", CellKind::Time),
            ("said", CellKind::Text),
        ];
        let mut sink = ParquetFile::new(&columns).unwrap();
        let rows = GROUP + 2;
        for number in 0..rows {
            sink.row(match number % 2 {
                0 => [json!(number), json!(0.5), json!(true), json!("2027-01-31T00:00:00.250Z"), json!("Ü\u{0}\n")],
                _ => [json!(u64::MAX), json!("no"), Value::Null, json!("yesterday"), json!(7)],
            })
            .unwrap();
        }
        let reader = read(sink);
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let read: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len(), rows);
        let last = &read[rows - 2];
        assert_eq!((last.get_long(0).unwrap(), last.get_double(1).unwrap()), (GROUP as i64, 0.5));
        assert_eq!((last.get_bool(2).unwrap(), last.get_timestamp_millis(3).unwrap()), (true, 1_801_353_600_250));
        assert_eq!(last.get_string(4).unwrap(), "Ü\u{0}\n");
        assert_eq!(read[1].to_string(), "{n: null, x: null, is: null, at: null, said: null}");
    }

    #[test]
    fn a_table_without_rows_is_a_file_with_columns() {
        let reader = read(ParquetFile::new(&[("n", CellKind::Count)]).unwrap());
        assert_eq!(reader.metadata().file_metadata().schema_descr().column(0).name(), "n");
    }

    #[test]
    fn times_of_every_writer_are_read() {
        for text in ["1970-01-01T00:00:01.500Z", "1970-01-01T01:00:01.500+01:00", "1970-01-01T00:00:01.500123"] {
            assert_eq!(milliseconds(text), Some(1500), "{text}");
        }
        assert_eq!((milliseconds("1970-01-01T00:00:01+00:00"), milliseconds("1970-01-01")), (Some(1000), None));
    }
}
