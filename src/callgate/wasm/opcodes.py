"""The instructions of WebAssembly 2.0 with tail calls: one row each, nothing that works with them.

A row is the opcode (prefixed ones as prefix << 8 | number), the name, the kinds of its immediates or `-`, and its
type; `*` where the type depends on the place.  Core specification 2.0, 5.4 (binary format) and appendix 7.6 (index).
Long because there are 439 instructions.
"""

from __future__ import annotations

from typing import NamedTuple

from callgate.wasm.types import VALUE_TYPES

_ROWS = """
0000  unreachable                       -               *
0001  nop                               -               ->
0002  block                             block           *
0003  loop                              block           *
0004  if                                block           *
0005  else                              -               *
000b  end                               -               *
000c  br                                label           *
000d  br_if                             label           *
000e  br_table                          labels          *
000f  return                            -               *
0010  call                              function        *
0011  call_indirect                     type,table      *
0012  return_call                       function        *
0013  return_call_indirect              type,table      *
001a  drop                              -               *
001b  select                            -               *
001c  select                            types           *
0020  local.get                         local           *
0021  local.set                         local           *
0022  local.tee                         local           *
0023  global.get                        global          *
0024  global.set                        global          *
0025  table.get                         table           *
0026  table.set                         table           *
0028  i32.load                          memory4         i32 -> i32
0029  i64.load                          memory8         i32 -> i64
002a  f32.load                          memory4         i32 -> f32
002b  f64.load                          memory8         i32 -> f64
002c  i32.load8_s                       memory1         i32 -> i32
002d  i32.load8_u                       memory1         i32 -> i32
002e  i32.load16_s                      memory2         i32 -> i32
002f  i32.load16_u                      memory2         i32 -> i32
0030  i64.load8_s                       memory1         i32 -> i64
0031  i64.load8_u                       memory1         i32 -> i64
0032  i64.load16_s                      memory2         i32 -> i64
0033  i64.load16_u                      memory2         i32 -> i64
0034  i64.load32_s                      memory4         i32 -> i64
0035  i64.load32_u                      memory4         i32 -> i64
0036  i32.store                         memory4         i32 i32 ->
0037  i64.store                         memory8         i32 i64 ->
0038  f32.store                         memory4         i32 f32 ->
0039  f64.store                         memory8         i32 f64 ->
003a  i32.store8                        memory1         i32 i32 ->
003b  i32.store16                       memory2         i32 i32 ->
003c  i64.store8                        memory1         i32 i64 ->
003d  i64.store16                       memory2         i32 i64 ->
003e  i64.store32                       memory4         i32 i64 ->
003f  memory.size                       memory          -> i32
0040  memory.grow                       memory          i32 -> i32
0041  i32.const                         i32             -> i32
0042  i64.const                         i64             -> i64
0043  f32.const                         f32             -> f32
0044  f64.const                         f64             -> f64
0045  i32.eqz                           -               i32 -> i32
0046  i32.eq                            -               i32 i32 -> i32
0047  i32.ne                            -               i32 i32 -> i32
0048  i32.lt_s                          -               i32 i32 -> i32
0049  i32.lt_u                          -               i32 i32 -> i32
004a  i32.gt_s                          -               i32 i32 -> i32
004b  i32.gt_u                          -               i32 i32 -> i32
004c  i32.le_s                          -               i32 i32 -> i32
004d  i32.le_u                          -               i32 i32 -> i32
004e  i32.ge_s                          -               i32 i32 -> i32
004f  i32.ge_u                          -               i32 i32 -> i32
0050  i64.eqz                           -               i64 -> i32
0051  i64.eq                            -               i64 i64 -> i32
0052  i64.ne                            -               i64 i64 -> i32
0053  i64.lt_s                          -               i64 i64 -> i32
0054  i64.lt_u                          -               i64 i64 -> i32
0055  i64.gt_s                          -               i64 i64 -> i32
0056  i64.gt_u                          -               i64 i64 -> i32
0057  i64.le_s                          -               i64 i64 -> i32
0058  i64.le_u                          -               i64 i64 -> i32
0059  i64.ge_s                          -               i64 i64 -> i32
005a  i64.ge_u                          -               i64 i64 -> i32
005b  f32.eq                            -               f32 f32 -> i32
005c  f32.ne                            -               f32 f32 -> i32
005d  f32.lt                            -               f32 f32 -> i32
005e  f32.gt                            -               f32 f32 -> i32
005f  f32.le                            -               f32 f32 -> i32
0060  f32.ge                            -               f32 f32 -> i32
0061  f64.eq                            -               f64 f64 -> i32
0062  f64.ne                            -               f64 f64 -> i32
0063  f64.lt                            -               f64 f64 -> i32
0064  f64.gt                            -               f64 f64 -> i32
0065  f64.le                            -               f64 f64 -> i32
0066  f64.ge                            -               f64 f64 -> i32
0067  i32.clz                           -               i32 -> i32
0068  i32.ctz                           -               i32 -> i32
0069  i32.popcnt                        -               i32 -> i32
006a  i32.add                           -               i32 i32 -> i32
006b  i32.sub                           -               i32 i32 -> i32
006c  i32.mul                           -               i32 i32 -> i32
006d  i32.div_s                         -               i32 i32 -> i32
006e  i32.div_u                         -               i32 i32 -> i32
006f  i32.rem_s                         -               i32 i32 -> i32
0070  i32.rem_u                         -               i32 i32 -> i32
0071  i32.and                           -               i32 i32 -> i32
0072  i32.or                            -               i32 i32 -> i32
0073  i32.xor                           -               i32 i32 -> i32
0074  i32.shl                           -               i32 i32 -> i32
0075  i32.shr_s                         -               i32 i32 -> i32
0076  i32.shr_u                         -               i32 i32 -> i32
0077  i32.rotl                          -               i32 i32 -> i32
0078  i32.rotr                          -               i32 i32 -> i32
0079  i64.clz                           -               i64 -> i64
007a  i64.ctz                           -               i64 -> i64
007b  i64.popcnt                        -               i64 -> i64
007c  i64.add                           -               i64 i64 -> i64
007d  i64.sub                           -               i64 i64 -> i64
007e  i64.mul                           -               i64 i64 -> i64
007f  i64.div_s                         -               i64 i64 -> i64
0080  i64.div_u                         -               i64 i64 -> i64
0081  i64.rem_s                         -               i64 i64 -> i64
0082  i64.rem_u                         -               i64 i64 -> i64
0083  i64.and                           -               i64 i64 -> i64
0084  i64.or                            -               i64 i64 -> i64
0085  i64.xor                           -               i64 i64 -> i64
0086  i64.shl                           -               i64 i64 -> i64
0087  i64.shr_s                         -               i64 i64 -> i64
0088  i64.shr_u                         -               i64 i64 -> i64
0089  i64.rotl                          -               i64 i64 -> i64
008a  i64.rotr                          -               i64 i64 -> i64
008b  f32.abs                           -               f32 -> f32
008c  f32.neg                           -               f32 -> f32
008d  f32.ceil                          -               f32 -> f32
008e  f32.floor                         -               f32 -> f32
008f  f32.trunc                         -               f32 -> f32
0090  f32.nearest                       -               f32 -> f32
0091  f32.sqrt                          -               f32 -> f32
0092  f32.add                           -               f32 f32 -> f32
0093  f32.sub                           -               f32 f32 -> f32
0094  f32.mul                           -               f32 f32 -> f32
0095  f32.div                           -               f32 f32 -> f32
0096  f32.min                           -               f32 f32 -> f32
0097  f32.max                           -               f32 f32 -> f32
0098  f32.copysign                      -               f32 f32 -> f32
0099  f64.abs                           -               f64 -> f64
009a  f64.neg                           -               f64 -> f64
009b  f64.ceil                          -               f64 -> f64
009c  f64.floor                         -               f64 -> f64
009d  f64.trunc                         -               f64 -> f64
009e  f64.nearest                       -               f64 -> f64
009f  f64.sqrt                          -               f64 -> f64
00a0  f64.add                           -               f64 f64 -> f64
00a1  f64.sub                           -               f64 f64 -> f64
00a2  f64.mul                           -               f64 f64 -> f64
00a3  f64.div                           -               f64 f64 -> f64
00a4  f64.min                           -               f64 f64 -> f64
00a5  f64.max                           -               f64 f64 -> f64
00a6  f64.copysign                      -               f64 f64 -> f64
00a7  i32.wrap_i64                      -               i64 -> i32
00a8  i32.trunc_f32_s                   -               f32 -> i32
00a9  i32.trunc_f32_u                   -               f32 -> i32
00aa  i32.trunc_f64_s                   -               f64 -> i32
00ab  i32.trunc_f64_u                   -               f64 -> i32
00ac  i64.extend_i32_s                  -               i32 -> i64
00ad  i64.extend_i32_u                  -               i32 -> i64
00ae  i64.trunc_f32_s                   -               f32 -> i64
00af  i64.trunc_f32_u                   -               f32 -> i64
00b0  i64.trunc_f64_s                   -               f64 -> i64
00b1  i64.trunc_f64_u                   -               f64 -> i64
00b2  f32.convert_i32_s                 -               i32 -> f32
00b3  f32.convert_i32_u                 -               i32 -> f32
00b4  f32.convert_i64_s                 -               i64 -> f32
00b5  f32.convert_i64_u                 -               i64 -> f32
00b6  f32.demote_f64                    -               f64 -> f32
00b7  f64.convert_i32_s                 -               i32 -> f64
00b8  f64.convert_i32_u                 -               i32 -> f64
00b9  f64.convert_i64_s                 -               i64 -> f64
00ba  f64.convert_i64_u                 -               i64 -> f64
00bb  f64.promote_f32                   -               f32 -> f64
00bc  i32.reinterpret_f32               -               f32 -> i32
00bd  i64.reinterpret_f64               -               f64 -> i64
00be  f32.reinterpret_i32               -               i32 -> f32
00bf  f64.reinterpret_i64               -               i64 -> f64
00c0  i32.extend8_s                     -               i32 -> i32
00c1  i32.extend16_s                    -               i32 -> i32
00c2  i64.extend8_s                     -               i64 -> i64
00c3  i64.extend16_s                    -               i64 -> i64
00c4  i64.extend32_s                    -               i64 -> i64
00d0  ref.null                          reference       *
00d1  ref.is_null                       -               *
00d2  ref.func                          function        -> funcref
fc00  i32.trunc_sat_f32_s               -               f32 -> i32
fc01  i32.trunc_sat_f32_u               -               f32 -> i32
fc02  i32.trunc_sat_f64_s               -               f64 -> i32
fc03  i32.trunc_sat_f64_u               -               f64 -> i32
fc04  i64.trunc_sat_f32_s               -               f32 -> i64
fc05  i64.trunc_sat_f32_u               -               f32 -> i64
fc06  i64.trunc_sat_f64_s               -               f64 -> i64
fc07  i64.trunc_sat_f64_u               -               f64 -> i64
fc08  memory.init                       data,memory     i32 i32 i32 ->
fc09  data.drop                         data            ->
fc0a  memory.copy                       memory,memory   i32 i32 i32 ->
fc0b  memory.fill                       memory          i32 i32 i32 ->
fc0c  table.init                        element,table   i32 i32 i32 ->
fc0d  elem.drop                         element         ->
fc0e  table.copy                        table,table     i32 i32 i32 ->
fc0f  table.grow                        table           *
fc10  table.size                        table           -> i32
fc11  table.fill                        table           *
fd00  v128.load                         memory16        i32 -> v128
fd01  v128.load8x8_s                    memory8         i32 -> v128
fd02  v128.load8x8_u                    memory8         i32 -> v128
fd03  v128.load16x4_s                   memory8         i32 -> v128
fd04  v128.load16x4_u                   memory8         i32 -> v128
fd05  v128.load32x2_s                   memory8         i32 -> v128
fd06  v128.load32x2_u                   memory8         i32 -> v128
fd07  v128.load8_splat                  memory1         i32 -> v128
fd08  v128.load16_splat                 memory2         i32 -> v128
fd09  v128.load32_splat                 memory4         i32 -> v128
fd0a  v128.load64_splat                 memory8         i32 -> v128
fd0b  v128.store                        memory16        i32 v128 ->
fd0c  v128.const                        v128            -> v128
fd0d  i8x16.shuffle                     lanes32         v128 v128 -> v128
fd0e  i8x16.swizzle                     -               v128 v128 -> v128
fd0f  i8x16.splat                       -               i32 -> v128
fd10  i16x8.splat                       -               i32 -> v128
fd11  i32x4.splat                       -               i32 -> v128
fd12  i64x2.splat                       -               i64 -> v128
fd13  f32x4.splat                       -               f32 -> v128
fd14  f64x2.splat                       -               f64 -> v128
fd15  i8x16.extract_lane_s              lane16          v128 -> i32
fd16  i8x16.extract_lane_u              lane16          v128 -> i32
fd17  i8x16.replace_lane                lane16          v128 i32 -> v128
fd18  i16x8.extract_lane_s              lane8           v128 -> i32
fd19  i16x8.extract_lane_u              lane8           v128 -> i32
fd1a  i16x8.replace_lane                lane8           v128 i32 -> v128
fd1b  i32x4.extract_lane                lane4           v128 -> i32
fd1c  i32x4.replace_lane                lane4           v128 i32 -> v128
fd1d  i64x2.extract_lane                lane2           v128 -> i64
fd1e  i64x2.replace_lane                lane2           v128 i64 -> v128
fd1f  f32x4.extract_lane                lane4           v128 -> f32
fd20  f32x4.replace_lane                lane4           v128 f32 -> v128
fd21  f64x2.extract_lane                lane2           v128 -> f64
fd22  f64x2.replace_lane                lane2           v128 f64 -> v128
fd23  i8x16.eq                          -               v128 v128 -> v128
fd24  i8x16.ne                          -               v128 v128 -> v128
fd25  i8x16.lt_s                        -               v128 v128 -> v128
fd26  i8x16.lt_u                        -               v128 v128 -> v128
fd27  i8x16.gt_s                        -               v128 v128 -> v128
fd28  i8x16.gt_u                        -               v128 v128 -> v128
fd29  i8x16.le_s                        -               v128 v128 -> v128
fd2a  i8x16.le_u                        -               v128 v128 -> v128
fd2b  i8x16.ge_s                        -               v128 v128 -> v128
fd2c  i8x16.ge_u                        -               v128 v128 -> v128
fd2d  i16x8.eq                          -               v128 v128 -> v128
fd2e  i16x8.ne                          -               v128 v128 -> v128
fd2f  i16x8.lt_s                        -               v128 v128 -> v128
fd30  i16x8.lt_u                        -               v128 v128 -> v128
fd31  i16x8.gt_s                        -               v128 v128 -> v128
fd32  i16x8.gt_u                        -               v128 v128 -> v128
fd33  i16x8.le_s                        -               v128 v128 -> v128
fd34  i16x8.le_u                        -               v128 v128 -> v128
fd35  i16x8.ge_s                        -               v128 v128 -> v128
fd36  i16x8.ge_u                        -               v128 v128 -> v128
fd37  i32x4.eq                          -               v128 v128 -> v128
fd38  i32x4.ne                          -               v128 v128 -> v128
fd39  i32x4.lt_s                        -               v128 v128 -> v128
fd3a  i32x4.lt_u                        -               v128 v128 -> v128
fd3b  i32x4.gt_s                        -               v128 v128 -> v128
fd3c  i32x4.gt_u                        -               v128 v128 -> v128
fd3d  i32x4.le_s                        -               v128 v128 -> v128
fd3e  i32x4.le_u                        -               v128 v128 -> v128
fd3f  i32x4.ge_s                        -               v128 v128 -> v128
fd40  i32x4.ge_u                        -               v128 v128 -> v128
fd41  f32x4.eq                          -               v128 v128 -> v128
fd42  f32x4.ne                          -               v128 v128 -> v128
fd43  f32x4.lt                          -               v128 v128 -> v128
fd44  f32x4.gt                          -               v128 v128 -> v128
fd45  f32x4.le                          -               v128 v128 -> v128
fd46  f32x4.ge                          -               v128 v128 -> v128
fd47  f64x2.eq                          -               v128 v128 -> v128
fd48  f64x2.ne                          -               v128 v128 -> v128
fd49  f64x2.lt                          -               v128 v128 -> v128
fd4a  f64x2.gt                          -               v128 v128 -> v128
fd4b  f64x2.le                          -               v128 v128 -> v128
fd4c  f64x2.ge                          -               v128 v128 -> v128
fd4d  v128.not                          -               v128 -> v128
fd4e  v128.and                          -               v128 v128 -> v128
fd4f  v128.andnot                       -               v128 v128 -> v128
fd50  v128.or                           -               v128 v128 -> v128
fd51  v128.xor                          -               v128 v128 -> v128
fd52  v128.bitselect                    -               v128 v128 v128 -> v128
fd53  v128.any_true                     -               v128 -> i32
fd54  v128.load8_lane                   memory1,lane16  i32 v128 -> v128
fd55  v128.load16_lane                  memory2,lane8   i32 v128 -> v128
fd56  v128.load32_lane                  memory4,lane4   i32 v128 -> v128
fd57  v128.load64_lane                  memory8,lane2   i32 v128 -> v128
fd58  v128.store8_lane                  memory1,lane16  i32 v128 ->
fd59  v128.store16_lane                 memory2,lane8   i32 v128 ->
fd5a  v128.store32_lane                 memory4,lane4   i32 v128 ->
fd5b  v128.store64_lane                 memory8,lane2   i32 v128 ->
fd5c  v128.load32_zero                  memory4         i32 -> v128
fd5d  v128.load64_zero                  memory8         i32 -> v128
fd5e  f32x4.demote_f64x2_zero           -               v128 -> v128
fd5f  f64x2.promote_low_f32x4           -               v128 -> v128
fd60  i8x16.abs                         -               v128 -> v128
fd61  i8x16.neg                         -               v128 -> v128
fd62  i8x16.popcnt                      -               v128 -> v128
fd63  i8x16.all_true                    -               v128 -> i32
fd64  i8x16.bitmask                     -               v128 -> i32
fd65  i8x16.narrow_i16x8_s              -               v128 v128 -> v128
fd66  i8x16.narrow_i16x8_u              -               v128 v128 -> v128
fd67  f32x4.ceil                        -               v128 -> v128
fd68  f32x4.floor                       -               v128 -> v128
fd69  f32x4.trunc                       -               v128 -> v128
fd6a  f32x4.nearest                     -               v128 -> v128
fd6b  i8x16.shl                         -               v128 i32 -> v128
fd6c  i8x16.shr_s                       -               v128 i32 -> v128
fd6d  i8x16.shr_u                       -               v128 i32 -> v128
fd6e  i8x16.add                         -               v128 v128 -> v128
fd6f  i8x16.add_sat_s                   -               v128 v128 -> v128
fd70  i8x16.add_sat_u                   -               v128 v128 -> v128
fd71  i8x16.sub                         -               v128 v128 -> v128
fd72  i8x16.sub_sat_s                   -               v128 v128 -> v128
fd73  i8x16.sub_sat_u                   -               v128 v128 -> v128
fd74  f64x2.ceil                        -               v128 -> v128
fd75  f64x2.floor                       -               v128 -> v128
fd76  i8x16.min_s                       -               v128 v128 -> v128
fd77  i8x16.min_u                       -               v128 v128 -> v128
fd78  i8x16.max_s                       -               v128 v128 -> v128
fd79  i8x16.max_u                       -               v128 v128 -> v128
fd7a  f64x2.trunc                       -               v128 -> v128
fd7b  i8x16.avgr_u                      -               v128 v128 -> v128
fd7c  i16x8.extadd_pairwise_i8x16_s     -               v128 -> v128
fd7d  i16x8.extadd_pairwise_i8x16_u     -               v128 -> v128
fd7e  i32x4.extadd_pairwise_i16x8_s     -               v128 -> v128
fd7f  i32x4.extadd_pairwise_i16x8_u     -               v128 -> v128
fd80  i16x8.abs                         -               v128 -> v128
fd81  i16x8.neg                         -               v128 -> v128
fd82  i16x8.q15mulr_sat_s               -               v128 v128 -> v128
fd83  i16x8.all_true                    -               v128 -> i32
fd84  i16x8.bitmask                     -               v128 -> i32
fd85  i16x8.narrow_i32x4_s              -               v128 v128 -> v128
fd86  i16x8.narrow_i32x4_u              -               v128 v128 -> v128
fd87  i16x8.extend_low_i8x16_s          -               v128 -> v128
fd88  i16x8.extend_high_i8x16_s         -               v128 -> v128
fd89  i16x8.extend_low_i8x16_u          -               v128 -> v128
fd8a  i16x8.extend_high_i8x16_u         -               v128 -> v128
fd8b  i16x8.shl                         -               v128 i32 -> v128
fd8c  i16x8.shr_s                       -               v128 i32 -> v128
fd8d  i16x8.shr_u                       -               v128 i32 -> v128
fd8e  i16x8.add                         -               v128 v128 -> v128
fd8f  i16x8.add_sat_s                   -               v128 v128 -> v128
fd90  i16x8.add_sat_u                   -               v128 v128 -> v128
fd91  i16x8.sub                         -               v128 v128 -> v128
fd92  i16x8.sub_sat_s                   -               v128 v128 -> v128
fd93  i16x8.sub_sat_u                   -               v128 v128 -> v128
fd94  f64x2.nearest                     -               v128 -> v128
fd95  i16x8.mul                         -               v128 v128 -> v128
fd96  i16x8.min_s                       -               v128 v128 -> v128
fd97  i16x8.min_u                       -               v128 v128 -> v128
fd98  i16x8.max_s                       -               v128 v128 -> v128
fd99  i16x8.max_u                       -               v128 v128 -> v128
fd9b  i16x8.avgr_u                      -               v128 v128 -> v128
fd9c  i16x8.extmul_low_i8x16_s          -               v128 v128 -> v128
fd9d  i16x8.extmul_high_i8x16_s         -               v128 v128 -> v128
fd9e  i16x8.extmul_low_i8x16_u          -               v128 v128 -> v128
fd9f  i16x8.extmul_high_i8x16_u         -               v128 v128 -> v128
fda0  i32x4.abs                         -               v128 -> v128
fda1  i32x4.neg                         -               v128 -> v128
fda3  i32x4.all_true                    -               v128 -> i32
fda4  i32x4.bitmask                     -               v128 -> i32
fda7  i32x4.extend_low_i16x8_s          -               v128 -> v128
fda8  i32x4.extend_high_i16x8_s         -               v128 -> v128
fda9  i32x4.extend_low_i16x8_u          -               v128 -> v128
fdaa  i32x4.extend_high_i16x8_u         -               v128 -> v128
fdab  i32x4.shl                         -               v128 i32 -> v128
fdac  i32x4.shr_s                       -               v128 i32 -> v128
fdad  i32x4.shr_u                       -               v128 i32 -> v128
fdae  i32x4.add                         -               v128 v128 -> v128
fdb1  i32x4.sub                         -               v128 v128 -> v128
fdb5  i32x4.mul                         -               v128 v128 -> v128
fdb6  i32x4.min_s                       -               v128 v128 -> v128
fdb7  i32x4.min_u                       -               v128 v128 -> v128
fdb8  i32x4.max_s                       -               v128 v128 -> v128
fdb9  i32x4.max_u                       -               v128 v128 -> v128
fdba  i32x4.dot_i16x8_s                 -               v128 v128 -> v128
fdbc  i32x4.extmul_low_i16x8_s          -               v128 v128 -> v128
fdbd  i32x4.extmul_high_i16x8_s         -               v128 v128 -> v128
fdbe  i32x4.extmul_low_i16x8_u          -               v128 v128 -> v128
fdbf  i32x4.extmul_high_i16x8_u         -               v128 v128 -> v128
fdc0  i64x2.abs                         -               v128 -> v128
fdc1  i64x2.neg                         -               v128 -> v128
fdc3  i64x2.all_true                    -               v128 -> i32
fdc4  i64x2.bitmask                     -               v128 -> i32
fdc7  i64x2.extend_low_i32x4_s          -               v128 -> v128
fdc8  i64x2.extend_high_i32x4_s         -               v128 -> v128
fdc9  i64x2.extend_low_i32x4_u          -               v128 -> v128
fdca  i64x2.extend_high_i32x4_u         -               v128 -> v128
fdcb  i64x2.shl                         -               v128 i32 -> v128
fdcc  i64x2.shr_s                       -               v128 i32 -> v128
fdcd  i64x2.shr_u                       -               v128 i32 -> v128
fdce  i64x2.add                         -               v128 v128 -> v128
fdd1  i64x2.sub                         -               v128 v128 -> v128
fdd5  i64x2.mul                         -               v128 v128 -> v128
fdd6  i64x2.eq                          -               v128 v128 -> v128
fdd7  i64x2.ne                          -               v128 v128 -> v128
fdd8  i64x2.lt_s                        -               v128 v128 -> v128
fdd9  i64x2.gt_s                        -               v128 v128 -> v128
fdda  i64x2.le_s                        -               v128 v128 -> v128
fddb  i64x2.ge_s                        -               v128 v128 -> v128
fddc  i64x2.extmul_low_i32x4_s          -               v128 v128 -> v128
fddd  i64x2.extmul_high_i32x4_s         -               v128 v128 -> v128
fdde  i64x2.extmul_low_i32x4_u          -               v128 v128 -> v128
fddf  i64x2.extmul_high_i32x4_u         -               v128 v128 -> v128
fde0  f32x4.abs                         -               v128 -> v128
fde1  f32x4.neg                         -               v128 -> v128
fde3  f32x4.sqrt                        -               v128 -> v128
fde4  f32x4.add                         -               v128 v128 -> v128
fde5  f32x4.sub                         -               v128 v128 -> v128
fde6  f32x4.mul                         -               v128 v128 -> v128
fde7  f32x4.div                         -               v128 v128 -> v128
fde8  f32x4.min                         -               v128 v128 -> v128
fde9  f32x4.max                         -               v128 v128 -> v128
fdea  f32x4.pmin                        -               v128 v128 -> v128
fdeb  f32x4.pmax                        -               v128 v128 -> v128
fdec  f64x2.abs                         -               v128 -> v128
fded  f64x2.neg                         -               v128 -> v128
fdef  f64x2.sqrt                        -               v128 -> v128
fdf0  f64x2.add                         -               v128 v128 -> v128
fdf1  f64x2.sub                         -               v128 v128 -> v128
fdf2  f64x2.mul                         -               v128 v128 -> v128
fdf3  f64x2.div                         -               v128 v128 -> v128
fdf4  f64x2.min                         -               v128 v128 -> v128
fdf5  f64x2.max                         -               v128 v128 -> v128
fdf6  f64x2.pmin                        -               v128 v128 -> v128
fdf7  f64x2.pmax                        -               v128 v128 -> v128
fdf8  i32x4.trunc_sat_f32x4_s           -               v128 -> v128
fdf9  i32x4.trunc_sat_f32x4_u           -               v128 -> v128
fdfa  f32x4.convert_i32x4_s             -               v128 -> v128
fdfb  f32x4.convert_i32x4_u             -               v128 -> v128
fdfc  i32x4.trunc_sat_f64x2_s_zero      -               v128 -> v128
fdfd  i32x4.trunc_sat_f64x2_u_zero      -               v128 -> v128
fdfe  f64x2.convert_low_i32x4_s         -               v128 -> v128
fdff  f64x2.convert_low_i32x4_u         -               v128 -> v128
"""


class Instruction(NamedTuple):
    """A row.

    `immediates` are their kinds: an index space (`local`, `function`), `memoryN` (a memarg whose natural alignment is N
    bytes), `laneN` (a lane of N), or a value type.  `parameters` and `results` are value types; None where the type
    depends on the place.
    """

    opcode: int
    name: str
    immediates: tuple[str, ...]
    parameters: tuple[int, ...] | None
    results: tuple[int, ...]


def _instruction(row: str) -> Instruction:
    opcode, name, immediates, signature = row.split(None, 3)
    kinds = () if immediates == "-" else tuple(immediates.split(","))
    if signature == "*":
        return Instruction(int(opcode, 16), name, kinds, None, ())
    parameters, _, results = signature.partition("->")
    types = [tuple(VALUE_TYPES[name] for name in names.split()) for names in (parameters, results)]
    return Instruction(int(opcode, 16), name, kinds, types[0], types[1])


INSTRUCTIONS = {row.opcode: row for row in map(_instruction, _ROWS.strip().splitlines())}
"""Every instruction by opcode."""

OPCODES = {row.name: row.opcode for row in reversed(INSTRUCTIONS.values())}
"""The opcode of every name; `select` is the one without types."""
