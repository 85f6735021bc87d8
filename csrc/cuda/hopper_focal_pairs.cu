// Focal attention of candidate lists on Hopper. An image's regions are read once, and that is the cost: 36 regions of
// 1024 float16 are 74 KB, which a 132nd of an H100's memory brings in 3.2 microseconds. So each multiprocessor has one
// block that never stops reading: a feeding warp brings the images of its tasks to shared memory by bulk copies, one a
// row, and teams of four warps take turns to score them.
//
// A team's four warps share the product by dim: each has all regions (A, from shared memory; 64 bytes between the rows'
// banks, 32 where they are int8) and all words (B, straight from device memory, that is, L2) for a quarter of it. As in
// rerank.cuh a lane takes neighbouring elements of its row for both operands, eight of each; int8 become float16 on their
// way to the registers. Then come the three steps of epilogue/focal_attention.h by warps (attended_by_warp.cuh), the
// first as soon as a thread has added the quarters. All that does not need the image is under way before the team waits
// for it: words, the factor R; and what an image is, the feeding warp has found out before.
#include "hopper_pairs_texts.cuh"

namespace heritage_align::hopper {
namespace {

using namespace pairs;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Eight elements of a region as an operand of the product, and the storage of the other.
template <Storage storage>
__device__ __forceinline__ Sixteen eight_of(const unsigned char* at) {
  if constexpr (storage == Storage::i8) {
    const uint2 bytes = *reinterpret_cast<const uint2*>(at);
    Sixteen halves;
    halves_of_bytes(bytes.x, halves.word[0], halves.word[1]);
    halves_of_bytes(bytes.y, halves.word[2], halves.word[3]);
    return halves;
  } else {
    return *reinterpret_cast<const Sixteen*>(at);
  }
}
template <Storage storage>
constexpr Storage operand_for = storage == Storage::i8 ? Storage::f16 : storage;

// |v| of the image's regions, four a warp at a time. Those of int8 still lack their scales.
template <Storage storage>
__device__ __forceinline__ void measure_regions(const Parameters& p, const unsigned char* image, int m, Texts& texts) {
  constexpr int kAtOnce = 4;
  const int lane = threadIdx.x % kLanes, warp = Team::thread() / kLanes;
  const int dim = static_cast<int>(p.focal.regions.dim);
  for (int first = warp * kAtOnce; first < m; first += kTeamWarps * kAtOnce) {
    float squares[kAtOnce] = {};
    for (int column = lane * 8; column < dim; column += kLanes * 8)
      HA_UNROLL
      for (int k = 0; k < kAtOnce; ++k) {
        const int row = first + k < m ? first + k : m - 1;
        const Wide<operand_for<storage>> wide(
            eight_of<storage>(image + row * p.sizes.region_pitch + column * element_size(storage)));
        HA_UNROLL
        for (int e = 0; e < 8; ++e) squares[k] += wide.x[e] * wide.x[e];
      }
    warp_sums(squares);
    HA_UNROLL
    for (int k = 0; k < kAtOnce; ++k)
      if (lane == k && first + k < m) texts.region_lengths[first + k] = sqrtf(squares[k]);
  }
}

// This warp's quarter of the product of the regions in `image` with the words of the tile, into `partial`.
// `wait_for_image` is called when the first words are under way.
template <Storage storage, int kWordFragments, class Wait>
__device__ __forceinline__ void multiply_quarter(const Parameters& p, const unsigned char* image, int m,
                                                 const Texts& texts, float* partial, Wait wait_for_image) {
  constexpr int kChunksAhead = kWordFragments <= 2 ? 4 : 3;  // of words under way; more would not fit the registers
  const int warp = Team::thread() / kLanes, lane = threadIdx.x % kLanes, g = lane / 4, t = lane % 4;
  const int chunks = static_cast<int>(p.focal.words.dim) / kChunkColumns;
  int rows[kRegionFragments][2];
  HA_UNROLL
  for (int i = 0; i < kRegionFragments; ++i)
    HA_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = i * 16 + half * 8 + g;
      rows[i][half] = (row < m ? row : m - 1) * p.sizes.region_pitch + t * 8 * element_size(storage);
    }
  const unsigned char* words[kWordFragments];
  HA_UNROLL
  for (int j = 0; j < kWordFragments; ++j) {
    const int word = 8 * j + g < texts.n_words ? 8 * j + g : texts.n_words - 1;
    words[j] = reinterpret_cast<const unsigned char*>(
                   row_of<operand_for<storage>>(p.focal.words, texts.word_row[word])) + t * 16;
  }
  Sixteen b[kChunksAhead][kWordFragments];
  const auto load = [&](int i, int chunk) {
    if (chunk >= chunks) return;
    HA_UNROLL
    for (int j = 0; j < kWordFragments; ++j)
      b[i][j] = *reinterpret_cast<const Sixteen*>(words[j] + chunk * 64);
  };
  HA_UNROLL
  for (int i = 0; i < kChunksAhead; ++i) load(i, warp + i * kTeamWarps);
  wait_for_image();
  float c[kRegionFragments][kWordFragments][4] = {};
  for (int first = warp; first < chunks; first += kChunksAhead * kTeamWarps) {
    HA_UNROLL
    for (int i = 0; i < kChunksAhead; ++i) {
      const int chunk = first + i * kTeamWarps;
      if (chunk >= chunks) break;
      // All fragments, also where the last rows or words only repeat: branches would keep the loads from overlapping.
      Sixteen low[kRegionFragments], high[kRegionFragments];
      HA_UNROLL
      for (int r = 0; r < kRegionFragments; ++r) {
        low[r] = eight_of<storage>(image + rows[r][0] + chunk * kChunkColumns * element_size(storage));
        high[r] = eight_of<storage>(image + rows[r][1] + chunk * kChunkColumns * element_size(storage));
      }
      HA_UNROLL
      for (int step = 0; step < 2; ++step)
        HA_UNROLL
        for (int r = 0; r < kRegionFragments; ++r) {
          const uint32_t a[4] = {low[r].word[2 * step], high[r].word[2 * step], low[r].word[2 * step + 1],
                                 high[r].word[2 * step + 1]};
          HA_UNROLL
          for (int j = 0; j < kWordFragments; ++j) {
            const uint32_t of_word[2] = {b[i][j].word[2 * step], b[i][j].word[2 * step + 1]};
            if constexpr (operand_for<storage> == Storage::f16) {
              mma_f16(c[r][j], a, of_word);
            } else {
              mma_bf16(c[r][j], a, of_word);
            }
          }
        }
      load(i, chunk + kChunksAhead * kTeamWarps);
    }
  }
  partial += warp * p.sizes.partial_floats();
  HA_UNROLL
  for (int r = 0; r < kRegionFragments; ++r)
    HA_UNROLL
    for (int j = 0; j < kWordFragments; ++j)
      HA_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = r * 16 + half * 8 + g;
        if (row >= m) continue;
        float* to = partial + row * p.sizes.partial_pitch + 8 * j + 2 * t;
        to[0] = c[r][j][2 * half];
        to[1] = c[r][j][2 * half + 1];
      }
}

// Adds the quarters, and for t2i finds the logits: two lanes a text and region, each every other word of it.
template <Storage storage>
__device__ __forceinline__ void add_quarters(const Parameters& p, int m, const Texts& texts, float* quarters) {
  constexpr int kLanesOfPair = 2, kAtOnce = kTeamThreads / kLanesOfPair;
  const int partial = p.sizes.partial_floats();
  for (int first = 0; first < m * texts.n_texts; first += kAtOnce) {
    const bool exists = first + Team::thread() / kLanesOfPair < m * texts.n_texts;
    const int i = exists ? first + Team::thread() / kLanesOfPair : 0, text = i / m, region = i - text * m;
    const int start = texts.word_start[text], words = exists ? texts.word_start[text + 1] - start : 0;
    float* own = quarters + region * p.sizes.partial_pitch + start;
#pragma unroll 2
    for (int w = Team::thread() % kLanesOfPair; w < words; w += kLanesOfPair) {
      float sum = own[w];
      HA_UNROLL
      for (int quarter = 1; quarter < kTeamWarps; ++quarter) sum += own[quarter * partial + w];
      if (storage == Storage::i8) sum *= texts.region_scales[region] * texts.scales[start + w];
      own[w] = sum;
    }
    if (p.focal.direction == Direction::i2t) continue;
    const auto axis = query_axis_by_lanes<kLanesOfPair>(p.focal.settings, words, Column<const float>{own, 1});
    for (int w = Team::thread() % kLanesOfPair; w < words; w += kLanesOfPair)
      own[partial + w] = logit_of<float>(p.focal.settings, axis, own[w]);
  }
}

// Step 1 of i2t: four lanes a word, each every fourth region.
__device__ __forceinline__ void find_logits_of_words(const Parameters& p, int m, const Texts& texts,
                                                     const float* cosines, float* logits) {
  constexpr int kLanesOfWord = 4;
  static_assert(kTeamThreads / kLanesOfWord >= 32, "all words of a tile at once");
  const int word = Team::thread() / kLanesOfWord, pitch = p.sizes.partial_pitch;
  const int regions = word < texts.n_words ? m : 0;
  const Column<const float> column{cosines + word, pitch};
  const auto axis = query_axis_by_lanes<kLanesOfWord>(p.focal.settings, regions, column);
  for (int r = Team::thread() % kLanesOfWord; r < regions; r += kLanesOfWord)
    logits[r * pitch + word] = logit_of<float>(p.focal.settings, axis, column[r]);
}

template <Storage storage, int kWordFragments, bool kI2t>
__device__ __forceinline__ void score(const Parameters& p, const unsigned char* slots, Pipeline& pipeline, float* own,
                                      Texts& texts) {
  constexpr int kTeams = teams_for(kWordFragments);
  const Sizes& sizes = p.sizes;
  const FocalSettings& s = p.focal.settings;
  const int warp = Team::thread() / kLanes, lane = threadIdx.x % kLanes;
  float *quarters = own, *factor = quarters + sizes.quarters_floats(), *text_factors = factor + sizes.factor_floats();
  float *cosines = quarters, *logits = quarters + sizes.partial_floats();  // when the quarters have been added
  auto* weights = reinterpret_cast<float4*>(quarters + sizes.weights_at()) + warp * kWarpContexts;
  const bool t2i = !kI2t || p.focal.direction == Direction::both;
  if (Team::thread() == 0) texts.alone = -1;
  for (int i = Team::thread(); i < sizes.factor_floats() + sizes.text_factor_floats(); i += Team::kSize)
    factor[i] = 0.0f;
  Team::sync();

  uint32_t step = Team::number(), parity = 0;
  for (int64_t task = blockIdx.x + static_cast<int64_t>(step) * gridDim.x; task < p.tasks;
       task += kTeams * static_cast<int64_t>(gridDim.x), step += kTeams, parity ^= 1) {
    pipeline.known[Team::number()].wait(parity);
    const Image& image = pipeline.images[Team::number()];  // until the slot is free
    const int m = image.regions;
    const int64_t last = image.asked.last;
    const uint8_t* keep = p.focal.keep == nullptr ? nullptr : p.focal.keep + image.first_region;
    const unsigned char* regions = slots + step % kSlots * sizes.slot_bytes();
    const auto wait_for_image = [&] { pipeline.come[Team::number()].wait(parity); };
    const auto free_slot = [&] {
      __syncwarp();
      if (lane == 0) pipeline.freed[Team::number()].arrive();
    };
    if (m == 0) {
      wait_for_image();
      for (int64_t entry = image.asked.first + Team::thread(); entry < last; entry += Team::kSize)
        p.focal.scores[pair_at(p.asked, entry)] = -INFINITY;
      free_slot();
      continue;
    }
    bool is_new = true;
    for (int64_t entry = image.asked.first; entry < last;) {
      entry = next_texts<operand_for<storage>, kI2t>(p, entry, last, texts, text_factors);
      const bool is_last = entry == last;
      if (texts.n_words == 0) {  // only texts without words, which are scored
        if (is_last) {
          wait_for_image();
          free_slot();
        }
        continue;
      }
      float scale = 1.0f;
      if (storage == Storage::i8 && is_new && Team::thread() < m)
        scale = p.focal.regions.scales[image.first_region + Team::thread()];
      multiply_quarter<storage, kWordFragments>(p, regions, m, texts, quarters, [&] {
        if (is_new && t2i) {
          bring_triangle(p.focal.image_factors.values + image.factor, m, factor, sizes.factor_pitch);
          copy_commit();
        }
        wait_for_image();
      });
      if (is_new) {
        if (kI2t) measure_regions<storage>(p, regions, m, texts);
        if (storage == Storage::i8 && Team::thread() < m) texts.region_scales[Team::thread()] = scale;
      }
      copy_wait<0>();
      Team::sync();
      if (is_last) free_slot();
      add_quarters<storage>(p, m, texts, quarters);
      Team::sync();
      if (t2i) {
        const Attending words{logits, cosines, sizes.partial_pitch, 1, m,
                              keep, factor, sizes.factor_pitch, texts.lengths, texts.n_words, texts.results};
        for (int word = warp * kQueriesAtOnce; word < words.queries; word += kTeamWarps * kQueriesAtOnce)
          attend_by_warp(s, words, word, weights);
        Team::sync();
        for (int text = warp; text < texts.n_texts; text += kTeamWarps) {
          const int start = texts.word_start[text];
          const float score = aggregate_by_warp(s, texts.word_start[text + 1] - start, texts.results + start);
          if (lane == 0) (kI2t ? texts.scores[text] : p.focal.scores[texts.place[text]]) = score;
        }
      }
      if constexpr (kI2t) {
        float* results = quarters + sizes.results_at();
        find_logits_of_words(p, m, texts, cosines, logits);
        if (storage == Storage::i8 && is_new && Team::thread() < m)
          texts.region_lengths[Team::thread()] *= fabsf(texts.region_scales[Team::thread()]);
        Team::sync();
        const int batches = (m + kQueriesAtOnce - 1) / kQueriesAtOnce;
        for (int i = warp; i < texts.n_texts * batches; i += kTeamWarps) {
          const int text = i / batches, start = texts.word_start[text], pitch = sizes.text_factor_pitch();
          const Attending of_text{logits + start, cosines + start, 1, sizes.partial_pitch,
                                  texts.word_start[text + 1] - start, nullptr, text_factors + start * (pitch + 1),
                                  pitch, texts.region_lengths, m, results + text * m};
          attend_by_warp(s, of_text, (i - text * batches) * kQueriesAtOnce, weights);
        }
        Team::sync();
        for (int text = warp; text < texts.n_texts; text += kTeamWarps) {
          const float score = aggregate_by_warp(s, m, results + text * m);
          if (lane == 0) p.focal.scores[texts.place[text]] = t2i ? texts.scores[text] + score : score;
        }
        Team::sync();  // the results are where quarters come next
      }
      is_new = false;
    }
    copy_wait<0>();
  }
}

#endif

template <Storage storage, int kWordFragments, bool kI2t>
__global__ void __launch_bounds__(threads_for(kWordFragments), 1)
    focal_pairs_kernel(const __grid_constant__ Parameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kTeams = teams_for(kWordFragments);
  HA_SHARED_MEMORY(shared);
  float* teams = reinterpret_cast<float*>(shared + kSlots * p.sizes.slot_bytes());
  auto* texts = reinterpret_cast<Texts*>(teams + kTeams * p.sizes.team_floats());
  Pipeline& pipeline = *reinterpret_cast<Pipeline*>(texts + kTeams);
  if (threadIdx.x == 0) {
    for (int team = 0; team < kMaxTeams; ++team) {
      pipeline.known[team].start(1);
      pipeline.come[team].start(1);
      pipeline.freed[team].start(kTeamWarps);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kTeams * kTeamThreads) {
    grow_registers<team_registers_for(kWordFragments)>();
    const int team = Team::number();
    score<storage, kWordFragments, kI2t>(p, shared, pipeline, teams + team * p.sizes.team_floats(), texts[team]);
  } else {
    shrink_registers<kFeedRegisters>();
    if (threadIdx.x < kTeams * kTeamThreads + kLanes) feed<storage, kTeams>(p, shared, pipeline);
  }
#endif
}

constexpr int kSharedBytes = 227 * 1024;

Sizes sizes_for(int words, int64_t max_regions, const FocalParameters& p) {
  const int regions = static_cast<int>(std::max<int64_t>(max_regions, 1));
  const int row_bytes = static_cast<int>(p.regions.dim) * element_size(p.regions.storage);
  // Eight rows, or four of int8, are read at once: they start at different banks.
  const int apart = p.regions.storage == Storage::i8 ? 32 : 64;
  const int pitch = row_bytes + (row_bytes % (2 * apart) == 0 ? apart : 0);
  return {words, regions, pitch, regions | 1, words + 9, p.direction != Direction::t2i};
}

int64_t shared_bytes(const Sizes& sizes) {
  const int64_t of_team = sizes.team_floats() * sizeof(float) + sizeof(Texts);
  return int64_t{kSlots} * sizes.slot_bytes() + teams_for(sizes.words / 8) * of_team + sizeof(Pipeline);
}

template <Storage storage, int kWordFragments>
void (*kernel_for(Direction direction))(Parameters) {
  return direction == Direction::t2i ? focal_pairs_kernel<storage, kWordFragments, false>
                                     : focal_pairs_kernel<storage, kWordFragments, true>;
}
template <Storage storage>
void (*kernel_for(Direction direction, int words))(Parameters) {
  return words == 16 ? kernel_for<storage, 2>(direction) : kernel_for<storage, 4>(direction);
}

}  // namespace

bool score_focal_pairs(const Device& device, const FocalParameters& p, const Tensor& candidates, const Tensor& words,
                       int64_t max_regions) {
  const Rows &r = p.regions, &w = p.words;
  const bool bytes = r.storage == Storage::i8;
  const bool fits = r.storage != Storage::f32 && (bytes || r.storage == w.storage) && r.aligned &&
                    (w.aligned || w.storage == Storage::i8) && r.dim % kChunkColumns == 0 && r.dim >= 64 &&
                    r.dim <= 4096 && max_regions <= kRegions && p.max_words <= 32;
  if (!chosen(device) || !fits) return false;
  Parameters parameters{};
  parameters.focal = p;
  // 32 words where several texts share an image or one needs them, and shared memory has the room.
  const bool one_text = candidates.size(0) == 1;
  int tile = one_text && p.max_words <= 16 ? 16 : 32;
  if (shared_bytes(sizes_for(tile, max_regions, p)) > kSharedBytes && p.max_words <= 16) tile = 16;
  parameters.sizes = sizes_for(tile, max_regions, p);
  if (shared_bytes(parameters.sizes) > kSharedBytes) return false;

  Maybe order_memory, length_memory, word_memory;
  parameters.asked = {static_cast<const int64_t*>(candidates.const_data_ptr()), candidates.size(1),
                      candidates.size(0) * candidates.size(1),
                      order_if_worth_it(device, candidates, r.items, p.scores, order_memory)};
  parameters.tasks = parameters.asked.by_image.order == nullptr ? parameters.asked.pairs
                                                                : std::min(parameters.asked.pairs, r.items);
  if (!one_text && p.direction != Direction::i2t) {
    length_memory = lengths_of(device, words, w);
    parameters.focal.word_lengths = data_of<float>(length_memory);
  }
  if (w.storage == Storage::i8) {  // float16 holds them exactly; their scales meet the sums
    Rows unscaled = w;
    unscaled.scales = nullptr;
    parameters.focal.words = words_for(device, Storage::f16, words, unscaled, word_memory);
    parameters.word_scales = w.scales;
  }
  const auto kernel = bytes                       ? kernel_for<Storage::i8>(p.direction, tile)
                      : r.storage == Storage::f16 ? kernel_for<Storage::f16>(p.direction, tile)
                                                  : kernel_for<Storage::bf16>(p.direction, tile);
  device.launch(kernel, std::min<int64_t>(parameters.tasks, device.multiprocessors()), threads_for(tile / 8),
                shared_bytes(parameters.sizes), parameters);
  return true;
}

}  // namespace heritage_align::hopper
