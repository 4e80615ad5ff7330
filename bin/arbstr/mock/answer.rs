//! What a built-in provider says: an answer made from the question, in the shapes of the OpenAI API.

use serde_json::{Value, json};

/// One answer, before it is cut into a JSON body or a stream.
#[derive(Debug)]
pub(super) struct Answer {
    chat: bool,
    id: String,
    model: String,
    choices: u64,
    words: Vec<String>,
    tool: Option<String>,
    finish_reason: &'static str,
    usage: Value,
    include_usage: bool,
}

impl Answer {
    /// The answer of provider `name` to the request `asked`.
    pub(super) fn to(asked: &Value, name: &str, chat: bool) -> Self {
        let question = if chat {
            last_message(asked)
        } else {
            text_of(&asked["prompt"])
        };
        let tool = tool_to_call(asked);
        let text = format!("This is {name}, a built-in mock provider. You said: {question}");
        let mut words: Vec<String> = text.split_inclusive(' ').map(str::to_owned).collect();
        let limit = ["max_completion_tokens", "max_tokens"]
            .iter()
            .find_map(|key| asked[key].as_u64());
        let limit = limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
        let cut = tool.is_none() && words.len() > limit;
        words.truncate(if tool.is_some() { 0 } else { limit });
        let choices = asked["n"].as_u64().unwrap_or(1).clamp(1, 16);
        let input = input_tokens(asked);
        let output = (words.len() as u64).max(u64::from(tool.is_some()) * 12) * choices;
        Self {
            chat,
            id: format!("chatcmpl-mock-{:016x}", fingerprint(&asked.to_string())),
            model: asked["model"].as_str().unwrap_or("gpt-4o").to_owned(),
            choices,
            finish_reason: if tool.is_some() {
                "tool_calls"
            } else if cut {
                "length"
            } else {
                "stop"
            },
            words,
            tool,
            usage: json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input as u64 + output,
                "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}),
            include_usage: asked["stream_options"]["include_usage"] == true,
        }
    }

    /// The answer as one JSON body.
    pub(super) fn whole(&self) -> Value {
        let text = self.words.concat();
        let choice = |index: u64| {
            let mut choice =
                json!({"index": index, "finish_reason": self.finish_reason, "logprobs": null});
            if !self.chat {
                choice["text"] = text.clone().into();
            } else if let Some(tool) = &self.tool {
                choice["message"] =
                    json!({"role": "assistant", "content": null, "tool_calls": [tool_call(tool)]});
            } else {
                choice["message"] = json!({"role": "assistant", "content": text.clone()});
            }
            choice
        };
        let choices: Vec<Value> = (0..self.choices).map(choice).collect();
        json!({"id": self.id, "object": if self.chat { "chat.completion" } else { "text_completion" }, "created": CREATED,
            "model": self.model, "choices": choices, "usage": self.usage})
    }

    /// The payloads of its events, `[DONE]` last.
    pub(super) fn events(&self) -> Vec<String> {
        let mut events = Vec::new();
        for index in 0..self.choices {
            if self.chat {
                events.push(self.chunk(index, json!({"role": "assistant", "content": ""}), None));
            }
            match &self.tool {
                Some(tool) => {
                    let mut call = tool_call(tool);
                    call["index"] = 0.into();
                    events.push(self.chunk(index, json!({"tool_calls": [call]}), None));
                }
                None => events.extend(
                    self.words
                        .iter()
                        .map(|word| self.chunk(index, json!({"content": word}), None)),
                ),
            }
            events.push(self.chunk(index, json!({}), Some(self.finish_reason)));
        }
        if self.include_usage {
            let mut last = self.envelope();
            last["choices"] = json!([]);
            last["usage"] = self.usage.clone();
            events.push(last.to_string());
        }
        events.push("[DONE]".to_owned());
        events
    }

    fn chunk(&self, index: u64, delta: Value, finish_reason: Option<&str>) -> String {
        let mut chunk = self.envelope();
        let mut choice = json!({"index": index, "finish_reason": finish_reason, "logprobs": null});
        if self.chat {
            choice["delta"] = delta;
        } else {
            choice["text"] = delta["content"].as_str().unwrap_or_default().into();
        }
        chunk["choices"] = json!([choice]);
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk.to_string()
    }

    fn envelope(&self) -> Value {
        let object = if self.chat {
            "chat.completion.chunk"
        } else {
            "text_completion"
        };
        json!({"id": self.id, "object": object, "created": CREATED, "model": self.model})
    }
}

/// An embedding of eight numbers for each input.
pub(super) fn embedding(asked: &Value) -> Value {
    let inputs: Vec<String> = match &asked["input"] {
        Value::Array(inputs) => inputs.iter().map(text_of).collect(),
        input => vec![text_of(input)],
    };
    let vector = |text: &String| -> Vec<f64> {
        let print = fingerprint(text).to_le_bytes();
        print
            .iter()
            .map(|byte| f64::from(*byte) / 255.0 - 0.5)
            .collect()
    };
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"object": "embedding", "index": index, "embedding": vector(text)}))
        .collect();
    let tokens: usize = inputs.iter().map(|text| text.len().div_ceil(4)).sum();
    json!({"object": "list", "data": data, "model": asked["model"], "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
}

/// A token is four bytes here. How the answer is to be sent is no part of the prompt.
fn input_tokens(asked: &Value) -> usize {
    let mut prompt = asked.clone();
    if let Some(members) = prompt.as_object_mut() {
        members.retain(|name, _| !matches!(name.as_str(), "stream" | "stream_options"));
    }
    prompt.to_string().len().div_ceil(4)
}

fn last_message(asked: &Value) -> String {
    asked["messages"]
        .as_array()
        .and_then(|messages| messages.last())
        .map(|message| text_of(&message["content"]))
        .unwrap_or_default()
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str().or(part.as_str()))
            .collect::<Vec<_>>()
            .join(" "),
        _ => String::new(),
    }
}

fn tool_to_call(asked: &Value) -> Option<String> {
    let answered = asked["messages"]
        .as_array()
        .and_then(|messages| messages.last())
        .is_some_and(|last| last["role"] == "tool");
    let name = asked["tools"][0]["function"]["name"].as_str()?;
    (!answered && asked["tool_choice"] != "none").then(|| name.to_owned())
}

fn tool_call(name: &str) -> Value {
    json!({"id": "call_mock_1", "type": "function", "function": {"name": name, "arguments": "{}"}})
}

/// FNV-1a, so that the same question gets the same id and vector on every machine.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

const CREATED: u64 = 1_700_000_000;
