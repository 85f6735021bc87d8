#define HA_LEVEL avx512
#define HA_NAME "avx512"
#define HA_WIDTH 16
#include "level.inc"
