// A stand-in for the accelerator with the same ports: on a write to register 0 it reads BEATS beats from `source`, writes them to `target`
// and raises the interrupt. Register 4: source, 8: target, 12: last response seen. Row r traces 1000 * r + beat as each beat arrives.
// A write of n to register 16 reads n bursts over each of two weight ports, port p from `source` + p * 2^20; they raise the interrupt too.
// Register 20: the sum of the first words of their beats. The array state is "compute" with a beat of the copy and "waits for weights"
// without; a tile is eight beats.
module dummy #(parameter BEATS = 16, parameter ROWS = 40, parameter DEFECT = 0) (
  input clk, input rst, output reg interrupt,
  input [11:0] s_axi_control_awaddr, input s_axi_control_awvalid, output s_axi_control_awready,
  input [31:0] s_axi_control_wdata, input [3:0] s_axi_control_wstrb, input s_axi_control_wvalid, output s_axi_control_wready,
  output [1:0] s_axi_control_bresp, output reg s_axi_control_bvalid, input s_axi_control_bready,
  input [11:0] s_axi_control_araddr, input s_axi_control_arvalid, output s_axi_control_arready,
  output reg [31:0] s_axi_control_rdata, output [1:0] s_axi_control_rresp, output reg s_axi_control_rvalid, input s_axi_control_rready,
  output [39:0] m_axi_program_araddr, output [7:0] m_axi_program_arlen, output [2:0] m_axi_program_arsize, output [1:0] m_axi_program_arburst,
  output m_axi_program_arvalid, input m_axi_program_arready, input [127:0] m_axi_program_rdata, input [1:0] m_axi_program_rresp,
  input m_axi_program_rlast, input m_axi_program_rvalid, output m_axi_program_rready,
  output [39:0] m_axi_data_araddr, output [7:0] m_axi_data_arlen, output [2:0] m_axi_data_arsize, output [1:0] m_axi_data_arburst,
  output reg m_axi_data_arvalid, input m_axi_data_arready, input [127:0] m_axi_data_rdata, input [1:0] m_axi_data_rresp,
  input m_axi_data_rlast, input m_axi_data_rvalid, output m_axi_data_rready,
  output [39:0] m_axi_data_awaddr, output [7:0] m_axi_data_awlen, output [2:0] m_axi_data_awsize, output [1:0] m_axi_data_awburst,
  output reg m_axi_data_awvalid, input m_axi_data_awready, output [127:0] m_axi_data_wdata, output [15:0] m_axi_data_wstrb,
  output m_axi_data_wlast, output m_axi_data_wvalid, input m_axi_data_wready,
  input [1:0] m_axi_data_bresp, input m_axi_data_bvalid, output m_axi_data_bready,
  output [39:0] m_axi_pixels_araddr, output [7:0] m_axi_pixels_arlen, output [2:0] m_axi_pixels_arsize, output [1:0] m_axi_pixels_arburst,
  output m_axi_pixels_arvalid, input m_axi_pixels_arready, input [127:0] m_axi_pixels_rdata, input [1:0] m_axi_pixels_rresp,
  input m_axi_pixels_rlast, input m_axi_pixels_rvalid, output m_axi_pixels_rready,
  output [39:0] m_axi_weights_0_araddr, output [7:0] m_axi_weights_0_arlen, output [2:0] m_axi_weights_0_arsize, output [1:0] m_axi_weights_0_arburst,
  output m_axi_weights_0_arvalid, input m_axi_weights_0_arready, input [127:0] m_axi_weights_0_rdata, input [1:0] m_axi_weights_0_rresp,
  input m_axi_weights_0_rlast, input m_axi_weights_0_rvalid, output m_axi_weights_0_rready,
  output [39:0] m_axi_weights_1_araddr, output [7:0] m_axi_weights_1_arlen, output [2:0] m_axi_weights_1_arsize, output [1:0] m_axi_weights_1_arburst,
  output m_axi_weights_1_arvalid, input m_axi_weights_1_arready, input [127:0] m_axi_weights_1_rdata, input [1:0] m_axi_weights_1_rresp,
  input m_axi_weights_1_rlast, input m_axi_weights_1_rvalid, output m_axi_weights_1_rready,
  output [7:0] trace_state, output [15:0] trace_tile,
  output [ROWS-1:0] trace_linear_valid, output [16*ROWS-1:0] trace_linear_value,
  output [ROWS-1:0] trace_attention_valid, output [16*ROWS-1:0] trace_attention_value
);
  reg [31:0] source, target, response;
  reg [127:0] buffer [0:BEATS-1];
  reg [7:0] taken, given;
  reg busy, weights_busy;
  wire [1:0] weights_done;
  wire [31:0] sum_0, sum_1;

  // registers: address and data of a write are taken in the same cycle
  wire write = s_axi_control_awvalid && s_axi_control_wvalid && !s_axi_control_bvalid;
  wire read = s_axi_control_arvalid && !s_axi_control_rvalid;
  assign s_axi_control_awready = write;
  assign s_axi_control_wready = write;
  assign s_axi_control_arready = read;
  assign s_axi_control_bresp = 0;
  assign s_axi_control_rresp = 0;

  assign {m_axi_program_araddr, m_axi_program_arlen, m_axi_program_arvalid} = 0;
  assign m_axi_program_arsize = 4;
  assign m_axi_program_arburst = 1;
  assign m_axi_program_rready = 1;
  assign {m_axi_pixels_araddr, m_axi_pixels_arlen, m_axi_pixels_arvalid} = 0;
  assign m_axi_pixels_arsize = 4;
  assign m_axi_pixels_arburst = 1;
  assign m_axi_pixels_rready = 1;
  assign m_axi_data_araddr = {8'd0, source};
  assign m_axi_data_arlen = BEATS - 1;
  assign m_axi_data_arsize = 4;
  assign m_axi_data_arburst = DEFECT == 1 ? 2 : 1;
  assign m_axi_data_rready = taken < BEATS;
  assign m_axi_data_awaddr = {8'd0, target};
  assign m_axi_data_awlen = BEATS - 1;
  assign m_axi_data_awsize = 4;
  assign m_axi_data_awburst = 1;
  assign m_axi_data_wdata = buffer[given];
  assign m_axi_data_wstrb = 16'hffff;
  assign m_axi_data_wvalid = given < taken;
  assign m_axi_data_wlast = given == BEATS - 1 - (DEFECT == 2);
  assign m_axi_data_bready = 1;

  wire beat = m_axi_data_rvalid && m_axi_data_rready;
  assign trace_linear_valid = {ROWS{beat}};
  assign trace_attention_valid = {{ROWS-1{1'b0}}, beat && m_axi_data_rlast};
  assign trace_attention_value = {{16*(ROWS-1){1'b0}}, 16'hbeef};
  assign trace_state = {4'd0, taken[0] & busy, !busy ? 3'd0 : beat ? 3'd1 : 3'd4};
  assign trace_tile = {8'd0, taken >> 3};
  genvar row;
  generate for (row = 0; row < ROWS; row = row + 1) begin : values
    assign trace_linear_value[16*row +: 16] = 1000 * row + taken;
  end endgenerate

  wire go = write && s_axi_control_awaddr == 16;
  weight_port weight_port_0(.clk(clk), .rst(rst), .go(go), .bursts(s_axi_control_wdata), .first({8'd0, source}), .done(weights_done[0]), .sum(sum_0),
    .araddr(m_axi_weights_0_araddr), .arlen(m_axi_weights_0_arlen), .arsize(m_axi_weights_0_arsize), .arburst(m_axi_weights_0_arburst), .arvalid(m_axi_weights_0_arvalid), .arready(m_axi_weights_0_arready),
    .rdata(m_axi_weights_0_rdata), .rlast(m_axi_weights_0_rlast), .rvalid(m_axi_weights_0_rvalid), .rready(m_axi_weights_0_rready));
  weight_port weight_port_1(.clk(clk), .rst(rst), .go(go), .bursts(s_axi_control_wdata), .first({8'd0, source} + 40'h100000), .done(weights_done[1]), .sum(sum_1),
    .araddr(m_axi_weights_1_araddr), .arlen(m_axi_weights_1_arlen), .arsize(m_axi_weights_1_arsize), .arburst(m_axi_weights_1_arburst), .arvalid(m_axi_weights_1_arvalid), .arready(m_axi_weights_1_arready),
    .rdata(m_axi_weights_1_rdata), .rlast(m_axi_weights_1_rlast), .rvalid(m_axi_weights_1_rvalid), .rready(m_axi_weights_1_rready));

  always @(posedge clk) begin
    if (write) s_axi_control_bvalid <= 1;
    else if (s_axi_control_bready) s_axi_control_bvalid <= 0;
    if (write && s_axi_control_awaddr == 0) begin
      {interrupt, taken, given, response} <= 0;
      {busy, m_axi_data_arvalid, m_axi_data_awvalid} <= 3'b111;
    end
    if (write && s_axi_control_awaddr == 4) source <= s_axi_control_wdata;
    if (write && s_axi_control_awaddr == 8) target <= s_axi_control_wdata;

    if (read) begin
      s_axi_control_rvalid <= 1;
      s_axi_control_rdata <= s_axi_control_araddr == 4 ? source : s_axi_control_araddr == 8 ? target :
        s_axi_control_araddr == 20 ? sum_0 + sum_1 : response;
    end else if (s_axi_control_rready) s_axi_control_rvalid <= 0;

    if (m_axi_data_arvalid && m_axi_data_arready) m_axi_data_arvalid <= 0;
    if (m_axi_data_awvalid && m_axi_data_awready) m_axi_data_awvalid <= 0;
    if (beat) begin
      buffer[taken] <= m_axi_data_rdata;
      taken <= taken + 1;
      if (m_axi_data_rresp != 0) response <= {30'd0, m_axi_data_rresp};
    end
    if (m_axi_data_wvalid && m_axi_data_wready) given <= given + 1;
    if (m_axi_data_bvalid && busy) begin
      {busy, interrupt} <= 2'b01;
      if (m_axi_data_bresp != 0) response <= {30'd0, m_axi_data_bresp};
    end

    if (go) {weights_busy, interrupt} <= 2'b10;
    else if (weights_busy && &weights_done) {weights_busy, interrupt} <= 2'b01;

    if (rst) begin
      {interrupt, busy, weights_busy, s_axi_control_bvalid, s_axi_control_rvalid, m_axi_data_arvalid, m_axi_data_awvalid} <= 0;
      {source, target, response} <= 0;
      taken <= BEATS;
      given <= BEATS;
    end
  end
endmodule

// Reads `bursts` bursts of 16 beats, one after the other, the next address as soon as the last is taken.
module weight_port(
  input clk, input rst, input go, input [31:0] bursts, input [39:0] first, output done, output reg [31:0] sum,
  output [39:0] araddr, output [7:0] arlen, output [2:0] arsize, output [1:0] arburst, output arvalid, input arready,
  input [127:0] rdata, input rlast, input rvalid, output rready
);
  reg [31:0] asked, came, wanted;
  assign araddr = first + 256 * asked;
  assign arlen = 15;
  assign arsize = 4;
  assign arburst = 1;
  assign arvalid = asked < wanted;
  assign rready = 1;
  assign done = came == wanted;
  always @(posedge clk) begin
    if (arvalid && arready) asked <= asked + 1;
    if (rvalid) sum <= sum + rdata[31:0];
    if (rvalid && rlast) came <= came + 1;
    if (go) begin
      {asked, came, sum} <= 0;
      wanted <= bursts;
    end
    if (rst) {asked, came, wanted, sum} <= 0;
  end
endmodule
