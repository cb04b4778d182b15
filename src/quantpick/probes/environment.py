"""The environment variables that decide what programs see of a machine, where they are set."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: By who reads them: CUDA, ROCm, Intel, Vulkan, ggml, llama.cpp, Ollama, WSL and containers.
VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"),
    *("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
    "HSA_OVERRIDE_GFX_VERSION",
    *("ONEAPI_DEVICE_SELECTOR", "ZE_AFFINITY_MASK"),
    *("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "GGML_VK_VISIBLE_DEVICES"),
    *("GGML_VK_PREFER_HOST_MEMORY", "GGML_VK_ALLOW_SYSMEM_FALLBACK"),
    *("GGML_CUDA_ENABLE_UNIFIED_MEMORY", "GGML_CUDA_DEVICES", "GGML_METAL_DEVICES"),
    *("LLAMA_ARG_DEVICE", "LLAMA_ARG_FIT", "LLAMA_ARG_FIT_TARGET", "LLAMA_ARG_N_GPU_LAYERS"),
    *("OLLAMA_HOST", "OLLAMA_LLM_LIBRARY", "OLLAMA_VULKAN", "OLLAMA_IGPU_ENABLE"),
    *("OLLAMA_GPU_OVERHEAD", "OLLAMA_MODELS"),
    *("WSL_DISTRO_NAME", "WSL_INTEROP", "JETSON_JETPACK", "KUBERNETES_SERVICE_HOST"),
)


def read_environment(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return those that are set, an empty value included: that is what hides all devices."""
    return tuple((name, environ[name]) for name in VARIABLES if name in environ)
