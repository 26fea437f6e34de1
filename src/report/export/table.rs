//! A table in the making, in the form that it is written in.

use serde_json::{Map, Value};

use super::column::Column;
use super::parquet::ParquetFile;
use crate::error::{Context as _, Result};

/// How tables are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// Comma-separated values with a header
    Csv,
    /// One JSON object per line
    Jsonl,
    /// Apache Parquet, with types
    Parquet,
}

impl Form {
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Form::Csv => "csv",
            Form::Jsonl => "jsonl",
            Form::Parquet => "parquet",
        }
    }
}

/// A table: its name, its content, its rows.
#[derive(Debug)]
pub(crate) struct Table {
    /// The file's name without its end.
    pub name: &'static str,
    pub content: Vec<u8>,
    /// How many rows it has.
    pub rows: usize,
}

/// A table that takes rows.
pub(super) struct TableWriter {
    name: &'static str,
    columns: &'static [Column],
    sink: TableFormat,
    rows: usize,
}

enum TableFormat {
    Csv(Box<csv::Writer<Vec<u8>>>),
    Jsonl(Vec<u8>),
    Parquet(Box<ParquetFile>),
}

impl TableWriter {
    pub(super) fn new(name: &'static str, columns: &'static [Column], form: Form) -> Result<TableWriter> {
        let sink = match form {
            Form::Csv => {
                let mut writer = csv::Writer::from_writer(Vec::new());
                writer.write_record(columns.iter().map(|(name, _)| name)).infra(|| failed(name))?;
                TableFormat::Csv(Box::new(writer))
            }
            Form::Jsonl => TableFormat::Jsonl(Vec::new()),
            Form::Parquet => TableFormat::Parquet(Box::new(ParquetFile::new(columns).infra(|| failed(name))?)),
        };
        Ok(TableWriter { name, columns, sink, rows: 0 })
    }

    /// Takes a row: a value for each column.
    pub(super) fn row<const N: usize>(&mut self, row: [Value; N]) -> Result<()> {
        self.rows += 1;
        match &mut self.sink {
            TableFormat::Csv(writer) => {
                let cell = |value: Value| match value {
                    Value::Null => String::new(),
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                writer.write_record(row.map(cell)).infra(|| failed(self.name))
            }
            TableFormat::Jsonl(content) => {
                let names = self.columns.iter().map(|(name, _)| (*name).to_string());
                let object: Map<String, Value> = names.zip(row).collect();
                serde_json::to_writer(&mut *content, &object).infra(|| failed(self.name))?;
                content.push(b'\n');
                Ok(())
            }
            TableFormat::Parquet(sink) => sink.row(row).infra(|| failed(self.name)),
        }
    }

    pub(super) fn finish(self) -> Result<Table> {
        let content = match self.sink {
            TableFormat::Csv(writer) => {
                writer.into_inner().map_err(|error| error.into_error()).infra(|| failed(self.name))?
            }
            TableFormat::Jsonl(content) => content,
            TableFormat::Parquet(sink) => sink.finish().infra(|| failed(self.name))?,
        };
        Ok(Table { name: self.name, content, rows: self.rows })
    }
}

fn failed(name: &str) -> String {
    format!("cannot write the table {name}")
}
