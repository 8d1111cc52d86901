/* SPDX-License-Identifier: GPL-2.0-only */
/* segment.c, for the two libraries that export its functions under their names */
#ifndef EXA_SEGMENT_H
#define EXA_SEGMENT_H

#include <stddef.h>

int exa_segment_set_length(void *hdr, size_t hdr_len, size_t data_len);
int exa_segment_calc_checksum(void *hdr, size_t hdr_len, const void *data, size_t data_len);

#endif /* EXA_SEGMENT_H */
