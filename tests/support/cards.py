"""Model cards in the forms that the busiest makers publish, in words of our own."""

BARTOWSKI_REPO = "bartowski/Tiny-Llama-70B-GGUF"
_BASE = f"https://huggingface.co/{BARTOWSKI_REPO}"

BARTOWSKI = f"""\
---
base_model: someone/Tiny-Llama-70B
license: llama3.1
quantized_by: bartowski
pipeline_tag: text-generation
---

## Quants of Tiny-Llama-70B

With <a href="https://github.com/ggml-org/llama.cpp/releases/tag/b3472">b3472</a>, using imatrix.

## Prompt format

```
<|sys|>{{system_prompt}}<|end|>
<|user|>{{prompt}}<|end|>
```

## Files

| Filename | Quant type | File Size | Split | Description |
| -------- | ---------- | --------- | ----- | ----------- |
| [Tiny-Llama-70B-f32.gguf]({_BASE}/tree/main/Tiny-Llama-70B-f32) | f32 | 280.1GB | true | Whole. |
| [Tiny-Llama-70B-Q8_0.gguf]({_BASE}/tree/main/Tiny-Llama-70B-Q8_0) | Q8_0 | 74.98GB | true | Top. |
| [Tiny-Llama-70B-Q6_K_L.gguf]({_BASE}/blob/main/Tiny-Llama-70B-Q6_K_L.gguf) | Q6_K_L | 58.40GB \
| false | Has Q8_0 for embed and output weights, *recommended*. |
| [Tiny-Llama-70B-Q4_K_M.gguf]({_BASE}/blob/main/Tiny-Llama-70B-Q4_K_M.gguf) | Q4_K_M | 42.52GB \
| false | The default, *recommended*. |
| [Tiny-Llama-70B-IQ4_XS.gguf]({_BASE}/blob/main/Tiny-Llama-70B-IQ4_XS.gguf) | IQ4_XS | 37.90GB \
| false | Small, **recommended**. |
| [Tiny-Llama-70B-Q3_K_S.gguf]({_BASE}/blob/main/Tiny-Llama-70B-Q3_K_S.gguf) | Q3_K_S | 30.91GB \
| false | *not recommended*. |
| [Tiny-Llama-70B-Q2_K.gguf]({_BASE}/blob/main/Tiny-Llama-70B-Q2_K.gguf) | Q2_K | 0.32GB | false | |
"""

MRADERMACHER_REPO = "mradermacher/Tiny-i1-GGUF"
_FILES = f"https://huggingface.co/{MRADERMACHER_REPO}/resolve/main"

MRADERMACHER = f"""\
---
base_model:
- someone/Tiny
language:
- en
license: apache-2.0
---
weighted/imatrix quants of https://huggingface.co/someone/Tiny

| Link | Type | Size/GB | Notes |
|:-----|:-----|--------:|:------|
| [imatrix]({_FILES}/Tiny.imatrix.gguf) | imatrix | 0.1 | for quants of your own |
| [GGUF]({_FILES}/Tiny.i1-IQ1_S.gguf) | i1-IQ1_S | 15.4 | when there is no other way |
| [GGUF]({_FILES}/Tiny.i1-Q4_K_M.gguf) | i1-Q4_K_M | 42.6 | fast, recommended |
| [GGUF]({_FILES}/Tiny.i1-Q5_K_M-00001-of-00002.gguf) | i1-Q5_K_M | 50.1 | |
| [PART 1]({_FILES}/Tiny.i1-Q6_K.gguf.part1of2) [PART 2]({_FILES}/Tiny.i1-Q6_K.gguf.part2of2) \
| i1-Q6_K | 58.0 | |
"""
