#define HA_LEVEL avx512_bf16
#define HA_NAME "avx512_bf16"
#define HA_WIDTH 16
#include "level.inc"
