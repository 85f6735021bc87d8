#define HA_LEVEL baseline
#define HA_NAME "baseline"
#define HA_WIDTH 4
#include "level.inc"
