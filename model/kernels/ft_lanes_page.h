/* ft_lanes_page: ft_page.h for any width of lanes. The file that includes it has
 * included an ft_simd_*.h and defined WIDE and QUERIES, the size of a tile: WIDE
 * lanes of columns for QUERIES rows; WIDE * QUERIES accumulators, WIDE of the page
 * and one of `a` have to fit the registers. */
#ifndef FT_LANES_PAGE_H
#define FT_LANES_PAGE_H
#include "model/kernels/ft_page.h"

/* LANES numbers from column j of a row of the page; the tail `left` of them, then zeros. */
FT_INLINE lanes load_page(ft_kv_type type, const char *row, size_t j, size_t left, int whole)
{
    if (type == FT_KV_F32) {
        const float *p = (const float *)(const void *)row + j;
        return whole ? lanes_load(p) : lanes_load_tail(p, tail_of(left));
    }
    const char *p = row + j * sizeof(uint16_t);
    return whole ? lanes_load_half(p, type == FT_KV_BF16) : lanes_load_half_tail(p, left, type == FT_KV_BF16);
}

/* Rows g … g + rows - 1, columns j … of `wide` lanes (`left` columns where they are
 * not whole), over i in from … to - 1; from 0 starts the sums, else they go on. */
FT_INLINE void page_tile(ft_kv_type type, const ft_page_product *p, size_t g, size_t j, size_t left, size_t from,
                         size_t to, int whole, int rows, int wide)
{
    const int add = p->add || from > 0;
    const size_t row_bytes = p->page_stride * ft_kv_bytes(type), line = j * ft_kv_bytes(type);
    const char *next = p->next && !g && !from ? (const char *)p->next + line : NULL;
    const char *row = (const char *)p->page + from * row_bytes;
    const float *a = p->a + g * p->a_stride;
    float *out = p->out + g * p->out_stride + j;
    lanes sum[QUERIES][WIDE];
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        FT_UNROLL
        for (int c = 0; c < wide; c++) {
            float *at = out + (size_t)r * p->out_stride + c * LANES;
            sum[r][c] = !add ? lanes_of(0) : whole ? lanes_load(at) : lanes_load_tail(at, tail_of(left));
        }
    }
    for (size_t i = from; i < to; i++, row += row_bytes) {
        if (next) {
            FT_UNROLL
            for (size_t at = 0; at < (size_t)wide * LANES * ft_kv_bytes(type); at += 64)
                __builtin_prefetch(next + i * row_bytes + at, 0, 2);
        }
        lanes b[WIDE];
        FT_UNROLL
        for (int c = 0; c < wide; c++)
            b[c] = load_page(type, row, j + (size_t)c * LANES, left, whole);
        FT_UNROLL
        for (int r = 0; r < rows; r++) {
            const lanes by = lanes_of(a[(size_t)r * p->a_stride + i]);
            FT_UNROLL
            for (int c = 0; c < wide; c++)
                sum[r][c] = lanes_fma(by, b[c], sum[r][c]);
        }
    }
    FT_UNROLL
    for (int r = 0; r < rows; r++) {
        FT_UNROLL
        for (int c = 0; c < wide; c++) {
            float *at = out + (size_t)r * p->out_stride + c * LANES;
            if (whole)
                lanes_store(at, sum[r][c]);
            else
                lanes_store_tail(at, tail_of(left), sum[r][c]);
        }
    }
}

/* All columns of some rows. */
FT_INLINE void page_rows(ft_kv_type type, const ft_page_product *p, size_t g, size_t from, size_t to, int rows)
{
    size_t j = 0;
    for (; j + WIDE * LANES <= p->cols; j += WIDE * LANES)
        page_tile(type, p, g, j, 0, from, to, 1, rows, WIDE);
    for (; j + LANES <= p->cols; j += LANES)
        page_tile(type, p, g, j, 0, from, to, 1, rows, 1);
    if (j < p->cols)
        page_tile(type, p, g, j, p->cols - j, from, to, 0, rows, 1);
}

FT_INLINE void page(ft_kv_type type, const ft_page_product *p)
{
    size_t g = 0;
    for (; g + QUERIES <= p->rows; g += QUERIES) {
        size_t common = p->depth;
        for (size_t r = 0; p->depths && r < QUERIES; r++)
            common = p->depths[g + r] < common ? p->depths[g + r] : common;
        page_rows(type, p, g, 0, common, QUERIES);
        for (size_t r = 0; p->depths && r < QUERIES; r++)
            if (p->depths[g + r] > common)
                page_rows(type, p, g + r, common, p->depths[g + r], 1);
    }
    for (; g + 2 <= p->rows && !p->depths; g += 2)
        page_rows(type, p, g, 0, p->depth, 2);
    for (; g < p->rows; g++)
        page_rows(type, p, g, 0, p->depths ? p->depths[g] : p->depth, 1);
}
#endif
