#define HA_LEVEL avx2
#define HA_NAME "avx2"
#define HA_WIDTH 8
#include "level.inc"
