/* The activation quantizers of a training step, each fused with what feeds it: forward and backward in one pass over memory.
 *
 * model/quant/deit.py states the same in torch and is what these are tested against. Compiled for one network (model/quant/kernels.py):
 * TOKENS, HEAD_DIM, HEADS and DIM are constants, so that the inner loops unroll. Everything is float32, contiguous, one thread.
 * "Inside" is where a straight-through round and clamp passes its gradient: value in (low - 0.5, high + 0.5).
 */
#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define PADDED ((TOKENS + 7) / 8 * 8)
#define SCORE_LOW (-512.0f)
#define SCORE_HIGH 511.0f
#define VALUE_LIMIT 127.0f

typedef struct { float low, high; } Range;

INLINE float code_of(float x, Range r) {
    float rounded = rintf(x);
    return rounded < r.low ? r.low : rounded > r.high ? r.high : rounded;
}

INLINE float inside(float x, Range r) { return x > r.low - 0.5f && x < r.high + 0.5f ? 1.0f : 0.0f; }

static const Range SCORES = {SCORE_LOW, SCORE_HIGH}, VALUES = {-VALUE_LIMIT, VALUE_LIMIT};

/* LayerNorm into codes. x: (rows, DIM); gamma, beta: (DIM). */
INLINE float normalized(const float *x, float epsilon, float *n) {
    float mean = 0, square = 0;
    for (int i = 0; i < DIM; i++) mean += x[i];
    mean /= DIM;
    for (int i = 0; i < DIM; i++) n[i] = x[i] - mean;
    for (int i = 0; i < DIM; i++) square += n[i] * n[i];
    float inverse = 1.0f / sqrtf(square / DIM + epsilon);
    for (int i = 0; i < DIM; i++) n[i] *= inverse;
    return inverse;
}

void norm_codes(const float *x, const float *gamma, const float *beta, long rows, Range range, float epsilon, float *codes) {
    for (long row = 0; row < rows; row++, x += DIM, codes += DIM) {
        float n[DIM];
        normalized(x, epsilon, n);
        for (int i = 0; i < DIM; i++) codes[i] = code_of(n[i] * gamma[i] + beta[i], range);
    }
}

void norm_codes_backward(const float *g, const float *x, const float *gamma, const float *beta, long rows, Range range, float epsilon,
                         float *dx, float *dgamma, float *dbeta) {
    for (long row = 0; row < rows; row++, g += DIM, x += DIM, dx += DIM) {
        float n[DIM], dn[DIM], sum = 0, dot = 0;
        float inverse = normalized(x, epsilon, n);
        for (int i = 0; i < DIM; i++) {
            float passed = g[i] * inside(n[i] * gamma[i] + beta[i], range);
            dbeta[i] += passed;
            dgamma[i] += passed * n[i];
            dn[i] = passed * gamma[i];
        }
        for (int i = 0; i < DIM; i++) sum += dn[i];
        for (int i = 0; i < DIM; i++) dot += dn[i] * n[i];
        sum /= DIM, dot /= DIM;
        for (int i = 0; i < DIM; i++) dx[i] = inverse * (dn[i] - sum - n[i] * dot);
    }
}

/* Codes of 8 bits, then a table: y (count) -> table[code of y]. */
#define BLOCK 1024
static const Range BYTES = {0.0f, 255.0f};

void table_codes(const float *y, const float *table, long count, float *codes) {
    for (long i = 0; i < count; i++) codes[i] = table[(int)code_of(y[i], BYTES)];
}

/* slope: (256) derivative of the table by its index; dtable: (256) sum of what arrives at each entry. */
void table_codes_backward(const float *restrict g, const float *restrict y, const float *restrict slope, long count,
                          float *restrict dy, float *dtable) {
    float part[8][256];
    memset(part, 0, sizeof part);
    for (long first = 0; first < count; first += BLOCK) {
        int codes[BLOCK], many = count - first < BLOCK ? count - first : BLOCK;
        for (int i = 0; i < many; i++) {
            codes[i] = (int)code_of(y[first + i], BYTES);
            dy[first + i] = g[first + i] * slope[codes[i]] * inside(y[first + i], BYTES);
        }
        for (int i = 0; i < many; i++) part[i & 7][codes[i]] += g[first + i];
    }
    for (int i = 0; i < 256; i++) {
        dtable[i] = 0;
        for (int p = 0; p < 8; p++) dtable[i] += part[p][i];
    }
}

/* Attention of one image and head, from q, k, v before their quantizers to the codes of the projection. */
typedef struct {
    float q[TOKENS][HEAD_DIM], k[TOKENS][HEAD_DIM], v[TOKENS][HEAD_DIM];
    float across_k[HEAD_DIM][PADDED], across_v[HEAD_DIM][PADDED];
} Head;

enum { STRIDE = 3 * HEADS * HEAD_DIM };

INLINE void load(const float *restrict qkv, float to_score, Head *restrict h) {
    for (int t = 0; t < TOKENS; t++)
        for (int d = 0; d < HEAD_DIM; d++) {
            h->q[t][d] = code_of(qkv[t * STRIDE + d], VALUES) * to_score;
            h->k[t][d] = code_of(qkv[t * STRIDE + HEADS * HEAD_DIM + d], VALUES);
            h->v[t][d] = code_of(qkv[t * STRIDE + 2 * HEADS * HEAD_DIM + d], VALUES);
        }
    memset(h->across_k, 0, sizeof h->across_k);
    memset(h->across_v, 0, sizeof h->across_v);
    for (int t = 0; t < TOKENS; t++)
        for (int d = 0; d < HEAD_DIM; d++) h->across_k[d][t] = h->k[t][d], h->across_v[d][t] = h->v[t][d];
}

/* Scores before rounding, probabilities, and the mean of v of one token. exponential: (1024), of -distance * score step. */
INLINE void attend(const Head *restrict h, int token, const float *restrict exponential, float *restrict scores, float *restrict p,
                   float *restrict out) {
    float largest = SCORE_LOW, sum = 0, rounded[PADDED];
    memset(scores, 0, PADDED * sizeof *scores);
    for (int d = 0; d < HEAD_DIM; d++)
        for (int t = 0; t < PADDED; t++) scores[t] += h->q[token][d] * h->across_k[d][t];
    for (int t = 0; t < PADDED; t++) rounded[t] = code_of(scores[t], SCORES);
    for (int t = TOKENS; t < PADDED; t++) rounded[t] = SCORE_LOW;
    for (int t = 0; t < PADDED; t++) largest = rounded[t] > largest ? rounded[t] : largest;
    for (int t = 0; t < PADDED; t++) p[t] = exponential[(int)(largest - rounded[t])];
    for (int t = TOKENS; t < PADDED; t++) p[t] = 0;
    for (int t = 0; t < PADDED; t++) sum += p[t];
    for (int t = 0; t < PADDED; t++) p[t] *= 1.0f / sum;
    memset(out, 0, HEAD_DIM * sizeof *out);
    for (int t = 0; t < TOKENS; t++)
        for (int d = 0; d < HEAD_DIM; d++) out[d] += p[t] * h->v[t][d];
}

void attention_codes(const float *qkv, long images, const float *exponential, float to_score, float ratio, float zero, Range range,
                     float *codes) {
    for (long part = 0; part < images * HEADS; part++) {
        Head h;
        float scores[PADDED], p[PADDED], out[HEAD_DIM];
        long first = part / HEADS * TOKENS, head = part % HEADS * HEAD_DIM;
        load(qkv + first * STRIDE + head, to_score, &h);
        for (int t = 0; t < TOKENS; t++) {
            float *to = codes + (first + t) * HEADS * HEAD_DIM + head;
            attend(&h, t, exponential, scores, p, out);
            for (int d = 0; d < HEAD_DIM; d++) to[d] = code_of(out[d] * ratio + zero, range);
        }
    }
}

/* Gradient of the codes -> of q, k, v before their quantizers; scalars: (2) of to_score and of ratio, added up. */
void attention_codes_backward(const float *g, const float *qkv, long images, const float *exponential, float step, float to_score,
                              float ratio, float zero, Range range, float *dqkv, float *scalars) {
    for (long part = 0; part < images * HEADS; part++) {
        Head h;
        float dk[TOKENS][HEAD_DIM] = {{0}}, dv[TOKENS][HEAD_DIM] = {{0}}, dto_score = 0, dratio = 0;
        long first = part / HEADS * TOKENS, head = part % HEADS * HEAD_DIM;
        const float *from = qkv + first * STRIDE + head;
        float *to = dqkv + first * STRIDE + head;
        load(from, to_score, &h);
        for (int t = 0; t < TOKENS; t++) {
            float scores[PADDED], p[PADDED], out[HEAD_DIM], dout[HEAD_DIM], dp[PADDED] = {0}, dq[HEAD_DIM] = {0}, dot = 0;
            const float *arriving = g + (first + t) * HEADS * HEAD_DIM + head;
            attend(&h, t, exponential, scores, p, out);
            for (int d = 0; d < HEAD_DIM; d++) {
                float passed = arriving[d] * inside(out[d] * ratio + zero, range);
                dratio += passed * out[d];
                dout[d] = passed * ratio;
            }
            for (int d = 0; d < HEAD_DIM; d++)
                for (int s = 0; s < PADDED; s++) dp[s] += dout[d] * h.across_v[d][s];
            for (int s = 0; s < PADDED; s++) dot += dp[s] * p[s];
            for (int s = 0; s < PADDED; s++) dp[s] = p[s] * (dp[s] - dot) * step * inside(scores[s], SCORES);
            for (int s = 0; s < TOKENS; s++)
                for (int d = 0; d < HEAD_DIM; d++) dq[d] += dp[s] * h.k[s][d];
            for (int s = 0; s < TOKENS; s++)
                for (int d = 0; d < HEAD_DIM; d++) dk[s][d] += dp[s] * h.q[t][d];
            for (int s = 0; s < TOKENS; s++)
                for (int d = 0; d < HEAD_DIM; d++) dv[s][d] += p[s] * dout[d];
            for (int d = 0; d < HEAD_DIM; d++) {
                dto_score += dq[d] * h.q[t][d];
                to[t * STRIDE + d] = dq[d] * to_score * inside(from[t * STRIDE + d], VALUES);
            }
        }
        for (int t = 0; t < TOKENS; t++)
            for (int d = 0; d < HEAD_DIM; d++) {
                long k = t * STRIDE + HEADS * HEAD_DIM + d, v = k + HEADS * HEAD_DIM;
                to[k] = dk[t][d] * inside(from[k], VALUES);
                to[v] = dv[t][d] * inside(from[v], VALUES);
            }
        scalars[0] += dto_score / to_score;
        scalars[1] += dratio;
    }
}

/* Binary weights times gain, and the constant beside them; per row: bias, gain, shift. BinaryWeight and fold state them. */
INLINE float sign_of(float w) { return w >= 0 ? 1.0f : -1.0f; }

INLINE float magnitude(const float *w, long inputs, float *signs) {
    float sum = 0, total = 0;
    for (long i = 0; i < inputs; i++) sum += fabsf(w[i]);
    for (long i = 0; i < inputs; i++) total += sign_of(w[i]);
    *signs = total;
    return sum / inputs;
}

void fold_binary(const float *w, const float *bias, const float *gain, const float *shift, long outputs, long inputs, float *folded,
                 float *constant) {
    for (long o = 0; o < outputs; o++, w += inputs, folded += inputs) {
        float signs, scale = magnitude(w, inputs, &signs), unit = scale * gain[o];
        for (long i = 0; i < inputs; i++) folded[i] = sign_of(w[i]) * unit;
        constant[o] = rintf((bias[o] + shift[o] * scale * signs) / unit) * unit;
    }
}

void fold_binary_backward(const float *g, const float *gconstant, const float *w, const float *gain, const float *shift, long outputs,
                          long inputs, float *restrict dw, float *dgain, float *dshift) {
    for (long o = 0; o < outputs; o++, w += inputs, g += inputs, dw += inputs) {
        float signs, scale = magnitude(w, inputs, &signs), dot = 0;
        for (long i = 0; i < inputs; i++) dot += g[i] * sign_of(w[i]);
        float constant = gconstant[o] * shift[o], through_scale = (dot * gain[o] + constant * signs) / inputs;
        for (long i = 0; i < inputs; i++) {
            float straight = w[i] >= -1 && w[i] <= 1 ? (g[i] * gain[o] + constant) * scale : 0.0f;
            dw[i] = straight + (w[i] > 0 ? through_scale : w[i] < 0 ? -through_scale : 0.0f);
        }
        dgain[o] = dot * scale;
        dshift[o] = gconstant[o] * scale * signs;
    }
}
