//! Writes seeds for the fuzz targets into a folder, one folder for each target: what a small log
//! holds, and the golden batches. `seeds FOLDER GOLDEN`, where `GOLDEN` has the batches as hex.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use tidemill_testkit::sim::damage::Specimen;

type Done = Result<(), Box<dyn Error>>;

struct Seeds<'a> {
    folder: &'a Path,
}

impl Seeds<'_> {
    fn put(&self, target: &str, name: &str, bytes: &[u8]) -> Done {
        let folder = self.folder.join(target);
        std::fs::create_dir_all(&folder)?;
        Ok(std::fs::write(folder.join(name), bytes)?)
    }

    /// The parts of a small log. Places are those of FORMAT.md.
    fn of_a_log(&self) -> Done {
        let image = Specimen::make(true)?.image;
        for (number, (path, bytes)) in image.files.iter().enumerate() {
            let name = format!("log-{number}");
            if path.starts_with("superblock") {
                self.put("superblock", &name, bytes)?;
            } else if path.starts_with("snapshots") {
                self.put("snapshot", &name, bytes)?;
            } else if path.starts_with("journal") {
                self.of_a_journal(&name, bytes)?;
            } else if let Some(stem) = path.strip_suffix(".log") {
                let sums = image.files.get(&format!("{stem}.sum"));
                let sums = sums.map(|sums| &sums[..]).unwrap_or_default();
                let lines = u8::try_from(sums.len() / 32)?;
                self.put("segment", &name, &[&[lines, 0], sums, bytes].concat())?;
                self.put("batch", &name, bytes)?;
            }
        }
        Ok(())
    }

    fn of_a_journal(&self, name: &str, bytes: &[u8]) -> Done {
        for (number, block) in bytes.chunks(4096).enumerate() {
            let length = block.get(12..16).and_then(|field| field.first_chunk());
            let length = length.map_or(0, |field| u32::from_le_bytes(*field)) as usize;
            let entries = block.get(96..96 + length).unwrap_or_default();
            let (Some(head), Some(count)) = (block.get(..96), block.get(44)) else {
                continue;
            };
            if block.starts_with(b"TMJC") {
                let name = format!("{name}-{number}");
                self.put("commit", &name, head)?;
                self.put("entries", &name, &[&[*count], entries].concat())?;
            }
        }
        Ok(())
    }

    fn golden(&self, golden: &Path) -> Done {
        for entry in std::fs::read_dir(golden)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "hex") {
                let text = std::fs::read_to_string(&path)?;
                let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
                let bytes = digits.chunks_exact(2).filter_map(|pair| match pair {
                    [high, low] => u8::try_from(high * 16 + low).ok(),
                    _ => None,
                });
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                self.put("batch", &name, &bytes.collect::<Vec<u8>>())?;
            }
        }
        Ok(())
    }

    fn texts(&self) -> Done {
        let event = r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","subject":"s",
            "time":"2026-11-21T00:00:00Z","datacontenttype":"application/json","data":{"a":1},
            "partitionkey":"k","flag":true,"count":7}"#;
        let binary =
            r#"{"specversion":"1.0","id":"2","source":"/b","type":"t","data_base64":"AA=="}"#;
        self.put("json", "one", event.as_bytes())?;
        self.put("json", "bytes", binary.as_bytes())?;
        self.put("json", "many", format!("[{event},{binary}]").as_bytes())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, golden] = arguments.as_slice() else {
        eprintln!("usage: seeds FOLDER GOLDEN");
        return ExitCode::from(2);
    };
    let seeds = Seeds {
        folder: Path::new(folder),
    };
    let done = seeds
        .of_a_log()
        .and_then(|()| seeds.golden(Path::new(golden)))
        .and_then(|()| seeds.texts());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("cannot write the seeds: {why}");
            ExitCode::FAILURE
        }
    }
}
