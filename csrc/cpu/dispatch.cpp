// Chooses the CPU level, once.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "level.h"

namespace heritage_align {

namespace baseline {
extern const Level kLevel;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Level kLevel;
}
namespace avx512 {
extern const Level kLevel;
}
namespace avx512_vnni {
extern const Level kLevel;
}
namespace avx512_bf16 {
extern const Level kLevel;
}
#endif

namespace {

struct Choice {
  const Level* level;
  bool runs_here;
};

const Level& choose() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  const bool bf16 = vnni && __builtin_cpu_supports("avx512bf16");
  const Choice choices[] = {{&avx512_bf16::kLevel, bf16},
                            {&avx512_vnni::kLevel, vnni},
                            {&avx512::kLevel, avx512},
                            {&avx2::kLevel, avx2},
                            {&baseline::kLevel, true}};
#else
  const Choice choices[] = {{&baseline::kLevel, true}};
#endif
  const char* wanted = std::getenv("HERITAGE_ALIGN_CPU_LEVEL");
  std::string known;
  for (const Choice& choice : choices) {
    if (choice.runs_here && (wanted == nullptr || std::string(wanted) == choice.level->name)) return *choice.level;
    if (choice.runs_here) known += std::string(" ") + choice.level->name;
  }
  throw std::runtime_error("HERITAGE_ALIGN_CPU_LEVEL=" + std::string(wanted) + " is none of what runs here:" + known);
}

}  // namespace

const Level& level() {
  static const Level& chosen = choose();
  return chosen;
}

}  // namespace heritage_align
