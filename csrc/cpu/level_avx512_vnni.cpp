#define HA_LEVEL avx512_vnni
#define HA_NAME "avx512_vnni"
#define HA_WIDTH 16
#include "level.inc"
